//! Answers of content handlers that are no content: a status, or an error in JSON.

use crate::ngx::request::Request;
use crate::ngx::respond::{discard_body, respond};

/// The type of these answers.
pub const JSON: &str = "application/json";

/// Answers a request without its body.
pub fn refuse(r: Request, status: isize) -> isize {
    match discard_body(r) {
        0 => status,
        rc => rc,
    }
}

/// Answers with an error.
pub fn answer(r: Request, status: u32, error: &str) -> isize {
    respond(r, status, JSON, format!("{{\"error\":\"{error}\"}}\n").as_bytes())
}
