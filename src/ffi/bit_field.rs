//! Bit fields of nginx's structs, read and written where the C compiler has them.
//!
//! bindgen 0.72 counts the bits of a struct from its first bit field. C counts them from the unit of
//! four bytes in which that one lies, so what would cross the end of a unit begins the next. Where a
//! smaller field comes before (`port` of ngx_http_request_t in nginx 1.30), bindgen's methods for
//! the later fields mean other bits. `build.rs` makes a constant for each field that `layout.txt` has
//! with an equals sign; whoever may touch the struct may use it.
#![allow(clippy::wildcard_imports)]

use core::marker::PhantomData;

use nginx_sys::*;

/// A bit field of the struct `T`: an unsigned number of at most 32 bits.
pub struct BitField<T> {
    /// The first of its bytes.
    first: usize,
    /// How many bytes it has a part of.
    len: usize,
    /// Its bits in these bytes, taken as one number.
    mask: u64,
    of: PhantomData<fn(T)>,
}

impl<T> BitField<T> {
    const fn new(first: usize, masks: &[u8]) -> Self {
        assert!(!masks.is_empty() && masks.len() <= 5 && first + masks.len() <= size_of::<T>());
        let mut field = Self { first, len: masks.len(), mask: 0, of: PhantomData };
        let mut i = 0;
        while i < masks.len() {
            field.mask |= (masks[i] as u64) << field.place(i);
            i += 1;
        }
        field
    }

    /// The place of byte `i` in the number, as the processor orders the bytes of one.
    const fn place(&self, i: usize) -> usize {
        if cfg!(target_endian = "little") {
            8 * i
        } else {
            8 * (self.len - 1 - i)
        }
    }

    /// The field's value.
    ///
    /// # Safety
    /// `of` must point to a struct that is alive.
    #[inline]
    pub unsafe fn get(&self, of: *const T) -> u32 {
        let mut number = 0;
        for i in 0..self.len {
            // SAFETY: inside of the struct, by `new`.
            let byte = unsafe { *of.cast::<u8>().add(self.first + i) };
            number |= u64::from(byte) << self.place(i);
        }
        ((number & self.mask) >> self.mask.trailing_zeros()) as u32
    }

    /// Gives the field a value, cut to its width; what lies beside it stays.
    ///
    /// # Safety
    /// `of` must point to a struct that is alive, and that nobody else has a reference to.
    #[inline]
    pub unsafe fn set(&self, of: *mut T, value: u32) {
        let bits = (u64::from(value) << self.mask.trailing_zeros()) & self.mask;
        for i in 0..self.len {
            let (bits, mask) = ((bits >> self.place(i)) as u8, (self.mask >> self.place(i)) as u8);
            // SAFETY: inside of the struct, by `new`.
            unsafe {
                let byte = of.cast::<u8>().add(self.first + i);
                *byte = *byte & !mask | bits;
            }
        }
    }
}

include!(concat!(env!("OUT_DIR"), "/bit_fields.rs"));
