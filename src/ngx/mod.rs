//! Safe wrappers around nginx and ngx_lua, one concept a file. Everything above this folder is
//! free of raw pointers to nginx's structures, but for nginx's tables in `conf` and lib.rs.

pub mod accepted;
pub mod ahead;
#[cfg(asan)]
pub mod asan_control;
pub mod block;
pub mod client;
pub mod clock;
pub mod cosocket;
pub mod errno;
pub mod goodbye;
pub mod guard;
pub mod handover;
pub mod heap;
pub mod host;
pub mod later;
pub mod leaving;
pub mod leg;
pub mod lending;
pub mod link;
pub mod listener;
pub mod log;
pub mod lua_conf;
pub mod lua_wait;
pub mod ngx_lua;
pub mod peers;
pub mod per_worker;
pub mod pooled;
pub mod posted;
pub mod process;
pub mod request;
pub mod resolve;
pub mod respond;
pub mod running;
pub mod switch;
pub mod takeover;
pub mod timer;
pub mod timer_request;
pub mod tls;
pub mod tls_client;
pub mod upstream;
pub mod upstream_conf;
pub mod wake;
pub mod wire;
pub mod zone;
