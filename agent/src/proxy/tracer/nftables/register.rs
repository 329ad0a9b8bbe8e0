//! The registers of a rule.

use netns_tools::nftables::Reg;

/// Sixteen words of four bytes (`struct nft_regs`).
const WORDS: usize = 16;

/// Registers, and which of their words were written.
#[derive(Debug)]
pub(super) struct Registers {
    bytes: [u8; WORDS * 4],
    written: [bool; WORDS],
}

impl Default for Registers {
    fn default() -> Self {
        Self { bytes: [0; WORDS * 4], written: [false; WORDS] }
    }
}

/// Where a register begins. `None`: it is the verdict's, or none of the kernel's.
fn word(register: Reg) -> Option<usize> {
    register.first_word().and_then(|word| word.try_into().ok())
}

type Answer<T> = Result<T, String>;

impl Registers {
    /// What does not fill the last word is followed by zeros, as in the kernel (`nft_reg_store8`, `nft_data_copy`).
    pub(super) fn write(&mut self, register: Reg, bytes: &[u8]) -> Answer<()> {
        let first = word(register).ok_or_else(|| format!("{register:?} holds no data"))?;
        let words = bytes.len().div_ceil(4);
        let place = self.bytes.get_mut(first * 4..(first + words) * 4);
        let place = place.ok_or_else(|| format!("{register:?} has no room for {bytes:?}"))?;
        place.fill(0);
        place[..bytes.len()].copy_from_slice(bytes);
        self.written[first..first + words].fill(true);
        Ok(())
    }

    pub(super) fn read(&self, register: Reg, length: usize) -> Answer<Vec<u8>> {
        let first = word(register).ok_or_else(|| format!("{register:?} holds no data"))?;
        let words = first..first + length.div_ceil(4);
        let written = self.written.get(words);
        if !written.is_some_and(|words| words.iter().all(|written| *written)) {
            return Err(format!("{length} bytes of {register:?} are read and were not written"));
        }
        Ok(self.bytes[first * 4..first * 4 + length].to_vec())
    }
}
