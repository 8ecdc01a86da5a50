//! How requests reach a controller and answers come back: by FIFOs in the chip, or by rings in
//! memory. Posting and draining only; whose a request is, [`io_queue`](crate::io_queue) knows.

#[cfg(feature = "mpi1")]
pub mod fifo;
#[cfg(feature = "mpi2")]
pub mod ring;
