//! Header fields as both sides of the handshake look at them: by name in any case, as values or
//! as lists of tokens over several lines (RFC 9110 5.3, 5.6.1).

/// Name and value of a header line.
pub(super) type Field<'a> = (&'a [u8], &'a [u8]);

/// Values of all lines with this name, in order.
pub(super) fn values<'a, 'n>(
    fields: impl Iterator<Item = Field<'a>> + 'n,
    name: &'n str,
) -> impl Iterator<Item = &'a [u8]> + 'n
where
    'a: 'n,
{
    fields
        .filter(move |(field, _)| field.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, value)| value)
}

/// Elements of a comma-separated list, without the white space around them; empty ones are
/// passed over.
pub(super) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&b| b == b',').map(<[u8]>::trim_ascii).filter(|element| !element.is_empty())
}

/// Text and value for a message; a missing value reads `nil`, as in Lua.
pub(super) fn with_value(text: &str, value: Option<&[u8]>) -> Vec<u8> {
    [text.as_bytes(), value.unwrap_or(b"nil")].concat()
}
