//! A number as Lua writes it: C's "%.14g". Made here, because Lua would make a string of its own, and
//! a native's body makes nothing in Lua. Used by `args`.

/// Significant digits.
const DIGITS: i32 = 14;

/// What `tostring(number)` gives.
pub fn text(number: f64) -> String {
    if !number.is_finite() {
        return if number.is_nan() { "nan".into() } else { number.to_string() };
    }
    let scientific = format!("{number:.*e}", DIGITS as usize - 1);
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..DIGITS).contains(&exponent) {
        let decimals = (DIGITS - 1 - exponent) as usize;
        return without_zeros(&format!("{number:.decimals$}")).to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{}e{sign}{:02}", without_zeros(mantissa), exponent.abs())
}

/// Without the zeros that end a fraction.
fn without_zeros(digits: &str) -> &str {
    if digits.contains('.') {
        digits.trim_end_matches('0').trim_end_matches('.')
    } else {
        digits
    }
}
