//! Numbers of sixteen bits with five of exponent, widened by the instruction that machines have for that.

use half::f16;

/// The instruction, if this machine has it for vectors of 512 bits. (Shorter ones have it as well, but there is no safe way to
/// it; shifts and products widen there.)
#[derive(Debug, Clone, Copy)]
pub struct Widening(#[cfg(target_arch = "x86_64")] Option<pulp::x86::V4>);

impl Widening {
    /// That of this machine.
    pub fn of_this_machine() -> Self {
        Self(
            #[cfg(target_arch = "x86_64")]
            pulp::x86::V4::try_new(),
        )
    }

    /// Sixteen numbers, or `None` if there is no such instruction. To be called where code is compiled for the widest vectors.
    #[inline(always)]
    pub fn widened(self, from: &[f16; 16]) -> Option<[f32; 16]> {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = self.0 {
            return Some(pulp::cast(simd.avx512f._mm512_cvtph_ps(pulp::cast(from.map(f16::to_bits)))));
        }
        let _ = from;
        None
    }
}
