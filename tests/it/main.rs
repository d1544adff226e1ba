//! The connector as its users meet it: the real binary, real HTTP, and readers that we did not write.

mod commands;
mod faults;
mod governed;
mod lab;
mod limits;
mod plain;
mod ranks;
mod readers;
mod shutdown;
mod values;
