//! Signing with Ed25519 (RFC 8032), by the OpenSSL that nginx is linked with.

use std::ptr;

use crate::ffi;

/// A private key. Freed with the last that has it.
pub struct PrivateKey(ptr::NonNull<ffi::EVP_PKEY>);

impl PrivateKey {
    /// From its 32 bytes; nothing: this OpenSSL cannot.
    pub fn new(secret: &[u8; 32]) -> Option<PrivateKey> {
        // SAFETY: the bytes are read in the call; the key is ours alone.
        let key = unsafe {
            let kind = ffi::EVP_PKEY_ED25519 as i32;
            ffi::EVP_PKEY_new_raw_private_key(kind, ptr::null_mut(), secret.as_ptr(), secret.len())
        };
        ptr::NonNull::new(key).map(PrivateKey)
    }

    /// Its public key.
    pub fn public(&self) -> Option<[u8; 32]> {
        let (mut bytes, mut len) = ([0; 32], 32);
        // SAFETY: the key lives; it writes as many bytes as `len` says at most.
        let rc = unsafe {
            ffi::EVP_PKEY_get_raw_public_key(self.0.as_ptr(), bytes.as_mut_ptr(), &mut len)
        };
        (rc == 1 && len == bytes.len()).then_some(bytes)
    }

    /// Signs.
    pub fn sign(&self, text: &[u8]) -> Option<[u8; 64]> {
        let (mut bytes, mut len) = ([0; 64], 64);
        // SAFETY: the key lives, the context is ours and freed here; it reads the text, and writes as
        // many bytes as `len` says at most. Ed25519 has no digest of its own choice, hence null.
        let good = unsafe {
            let context = ffi::EVP_MD_CTX_new();
            if context.is_null() {
                return None;
            }
            let (none, key) = (ptr::null_mut(), self.0.as_ptr());
            let good = ffi::EVP_DigestSignInit(context, none, ptr::null(), ptr::null_mut(), key)
                == 1
                && ffi::EVP_DigestSign(
                    context,
                    bytes.as_mut_ptr(),
                    &mut len,
                    text.as_ptr(),
                    text.len(),
                ) == 1;
            ffi::EVP_MD_CTX_free(context);
            good
        };
        (good && len == bytes.len()).then_some(bytes)
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        // SAFETY: ours until now.
        unsafe { ffi::EVP_PKEY_free(self.0.as_ptr()) };
    }
}
