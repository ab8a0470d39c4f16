//! Nothing: the applications beside this folder are examples, each to be run by its name.
