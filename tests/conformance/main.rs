//! One suite of behaviours, written once, over every adapter and the ways that requests can take.

mod adapters;
#[path = "../support/batches.rs"]
mod batches;
#[path = "../support/certificates.rs"]
mod certificates;
mod crowd;
#[path = "../../examples/support/executor.rs"]
mod executor;
mod matrix;
mod scenarios;
mod settings;
mod signals;
mod support;
mod way;

mod behaviours {
    pub use crate::scenarios::*;
    pub use crate::settings::*;
}

/// A module for each adapter, in it one for each way, with one test a scenario.
macro_rules! conformance {
    ([$($adapter:ident),+ $(,)?] $groups:tt) => {
        $(mod $adapter {
            conformance!(@groups $adapter $groups);
        })+
    };
    (@groups $adapter:ident { $($group:ident: $way:ident => $scenarios:tt)+ }) => {
        $(mod $group {
            conformance!(@tests $adapter $way $scenarios);
        })+
        mod matrix {
            conformance!(@matrix $adapter);
        }
    };
    (@tests $adapter:ident $way:ident [$($scenario:ident),+ $(,)?]) => {
        $(
            #[test]
            fn $scenario() {
                crate::adapters::$adapter(|runtime| crate::behaviours::$scenario(runtime, crate::way::Way::$way));
            }
        )+
    };
    (@matrix $adapter:ident) => {
        conformance!(@stories $adapter {
            grpc: GRPC, grpc_unix: GRPC_UNIX, grpc_tls: GRPC_TLS, grpc_mtls: GRPC_MTLS,
            http_protobuf: HTTP, http_protobuf_unix: HTTP_UNIX, http_protobuf_tls: HTTP_TLS,
            http_protobuf_tls_without_alpn: HTTP_TLS_WITHOUT_ALPN,
            http2_protobuf_tls: HTTP2_TLS, http2_protobuf_mtls: HTTP2_MTLS,
            http_json: JSON, http_json_mtls: JSON_MTLS, http2_json_tls: JSON_HTTP2_TLS,
        });
    };
    (@stories $adapter:ident { $($name:ident: $way:ident),+ $(,)? }) => {
        $(
            #[test]
            fn $name() {
                crate::adapters::$adapter(|runtime| crate::matrix::story(runtime, crate::way::Way::$way));
            }
        )+
    };
}

conformance!([
    tokio_current_thread, tokio_one_worker, tokio_two_workers, smol, smol_under_futures_executor, async_std,
    blocking, local, hand_written,
] {
    grpc: GRPC => [
        delivers_every_span_once,
        carries_headers_and_metadata,
        shares_connections,
        retries_what_is_unavailable,
        waits_as_told,
        reports_a_partial_success,
        takes_a_warning_as_success,
        reports_a_refusal,
        gives_up_at_the_deadline,
        survives_late_answers,
        names_a_refused_connection,
        resolves_localhost,
        tries_the_next_address,
        passes_a_black_hole,
        abandons_a_slow_resolver,
        reports_a_failing_resolver,
        survives_a_panicking_resolver,
        moves_on_at_goaway,
        resends_after_a_lost_connection,
        replaces_a_dead_connection,
        queues_behind_a_stream_limit,
        sends_five_megabytes,
        ends_before_a_stalled_peer,
        cancels_what_is_dropped,
        says_when_the_peer_speaks_http1,
        refuses_garbage,
        keeps_the_memory_limit,
        shuts_down_and_reports,
        is_defined_after_the_verdict,
        splits_what_is_too_large,
        splits_by_the_request_limit,
        asks_for_credentials_each_attempt,
        refuses_an_oversize_answer,
        ends_before_a_silent_peer,
        replaces_old_connections,
        serves_two_destinations,
    ]
    // Names and addresses are looked up before anything is spoken: `grpc` has these.
    http: HTTP => [
        delivers_every_span_once,
        carries_headers_and_metadata,
        shares_connections,
        retries_what_is_unavailable,
        waits_as_told,
        reports_a_partial_success,
        takes_a_warning_as_success,
        reports_a_refusal,
        gives_up_at_the_deadline,
        survives_late_answers,
        names_a_refused_connection,
        tries_the_next_address,
        passes_a_black_hole,
        moves_on_at_goaway,
        resends_after_a_lost_connection,
        replaces_a_dead_connection,
        queues_behind_a_stream_limit,
        sends_five_megabytes,
        ends_before_a_stalled_peer,
        cancels_what_is_dropped,
        refuses_garbage,
        keeps_the_memory_limit,
        shuts_down_and_reports,
        is_defined_after_the_verdict,
        splits_what_is_too_large,
        splits_by_the_request_limit,
        asks_for_credentials_each_attempt,
        refuses_an_oversize_answer,
        ends_before_a_silent_peer,
        replaces_old_connections,
        serves_two_destinations,
        follows_no_redirect,
    ]
    http_tls: HTTP_TLS => [
        gives_up_at_the_deadline,
        resends_after_a_lost_connection,
        replaces_a_dead_connection,
        sends_five_megabytes,
        ends_before_a_stalled_peer,
        refuses_garbage,
        shuts_down_and_reports,
        ends_before_a_silent_peer,
        replaces_old_connections,
        refuses_an_oversize_answer,
    ]
    grpc_tls: GRPC_TLS => [
        survives_late_answers,
        tries_the_next_address,
        moves_on_at_goaway,
        resends_after_a_lost_connection,
        replaces_a_dead_connection,
        queues_behind_a_stream_limit,
        sends_five_megabytes,
        ends_before_a_stalled_peer,
        cancels_what_is_dropped,
        shuts_down_and_reports,
        ends_before_a_silent_peer,
        splits_what_is_too_large,
        replaces_old_connections,
    ]
    http2_tls: HTTP2_TLS => [
        moves_on_at_goaway,
        replaces_a_dead_connection,
        queues_behind_a_stream_limit,
        sends_five_megabytes,
        ends_before_a_stalled_peer,
        shuts_down_and_reports,
        splits_what_is_too_large,
        splits_by_the_request_limit,
        asks_for_credentials_each_attempt,
        refuses_an_oversize_answer,
        ends_before_a_silent_peer,
        replaces_old_connections,
        serves_two_destinations,
        follows_no_redirect,
    ]
});

/// A test for each way, with many tasks and with many threads.
macro_rules! crowd {
    ($($name:ident: $way:ident),+ $(,)?) => {
        mod crowd_of_tasks {
            $(
                #[test]
                fn $name() {
                    crate::crowd::tasks(crate::way::Way::$way);
                }
            )+
        }
        mod crowd_of_threads {
            $(
                #[test]
                fn $name() {
                    crate::crowd::threads(crate::way::Way::$way);
                }
            )+
        }
    };
}

crowd!(
    grpc: GRPC, grpc_tls: GRPC_TLS, grpc_unix: GRPC_UNIX, http_protobuf: HTTP, http_protobuf_unix: HTTP_UNIX,
    http_protobuf_tls: HTTP_TLS, http2_protobuf_tls: HTTP2_TLS, http_json: JSON,
);
