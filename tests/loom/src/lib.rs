//! The waiter list of otlp-embed under every interleaving; the models are in `tests/`.
