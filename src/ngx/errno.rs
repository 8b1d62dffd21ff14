//! Texts of system errors, as ngx_lua gives them: lower case, without the number.

/// The system's text for `errno`.
pub fn text(errno: i32) -> String {
    let text = std::io::Error::from_raw_os_error(errno).to_string();
    text.split(" (os error").next().unwrap_or_default().to_lowercase()
}
