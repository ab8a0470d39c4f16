//! Nothing: the tests of this package lie in its folder `tests`.
