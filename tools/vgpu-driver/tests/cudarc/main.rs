//! The library as cudarc drives it. Each test runs in a process of its own, since a kernel's fault
//! ends its context.

mod child;
mod contexts;
mod counts;
mod device;
mod faults;
mod graphs;
mod launches;
mod layout;
mod libraries;
mod managed;
mod mappings;
mod memory;
mod modules;
mod multicasts;
mod processes;
mod streams;
mod values;
