//! Noise of a fixed seed, read as a server's bytes.

#[path = "support/fuzz/input.rs"]
mod input;
#[path = "support/fuzz/session_bytes.rs"]
mod session_bytes;

#[test]
fn noise_of_a_fixed_seed_holds() {
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..3_000 {
        let len = random.usize(0..400);
        // A SETTINGS frame first, most of the time, or the session soon hears that its peer speaks no HTTP/2.
        let mut data = if random.u8(0..8) > 0 {
            vec![8, 0]
        } else {
            Vec::new()
        };
        data.extend((0..len).map(|_| random.u8(..) & random.u8(..)));
        session_bytes::run(&data);
    }
}
