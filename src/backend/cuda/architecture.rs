//! The architecture that kernels are compiled for.

use std::fmt;
use std::str::FromStr;

use crate::error::{DeviceError, Error, Result};

/// The oldest architecture that the kernels run on.
const OLDEST: u32 = 80;
/// The one whose own instructions (warpgroup products) the kernels use; compiled for itself alone.
const HOPPER: u32 = 90;

/// A GPU architecture, written `sm_80`, `sm_90a`, ...
///
/// # Examples
/// ```
/// use semisep::backend::cuda::Architecture;
/// assert_eq!("sm_90".parse::<Architecture>()?.to_string(), "sm_90a");
/// assert!("sm_75".parse::<Architecture>().is_err());
/// # Ok::<(), semisep::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Architecture {
    number: u32, // ten times the major version plus the minor one
}

impl Architecture {
    /// The architecture of a compute capability.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if it is older than 8.0 or there is no such number.
    pub fn new(major: u32, minor: u32) -> Result<Self> {
        let number = major.checked_mul(10).filter(|_| minor < 10).and_then(|tens| tens.checked_add(minor));
        match number {
            Some(number @ OLDEST..) => Ok(Self { number }),
            _ => Err(unsupported(format!("sm_{major}{minor}"))),
        }
    }

    /// Ten times the major version plus the minor one.
    pub fn number(self) -> u32 {
        self.number
    }

    /// Whether the kernels of the Hopper tier run here.
    pub fn is_hopper(self) -> bool {
        self.number == HOPPER
    }

    /// Whether a kernel may start beside the one before it.
    pub(super) fn has_dependent_starts(self) -> bool {
        self.number >= HOPPER
    }

    /// The architectures whose code runs here, the newest first: those of its major version up to its minor one, but not what
    /// is compiled for another one alone.
    pub(super) fn runs(self) -> impl Iterator<Item = Self> {
        let all = (self.number / 10 * 10..=self.number).rev().map(|number| Self { number });
        all.filter(move |other| *other == self || !other.is_hopper())
    }

    /// The newest of the architectures `known` to a compiler whose code runs here.
    pub(super) fn target(self, known: &[u32]) -> Result<Self> {
        let found = self.runs().find(|other| known.contains(&other.number));
        found.ok_or_else(|| unsupported(self.to_string()))
    }
}

fn unsupported(found: String) -> Error {
    DeviceError::Unsupported { found, expected: "sm_80 or later, known to the run-time compiler".into() }
        .into()
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sm_{}{}", self.number, if self.is_hopper() { "a" } else { "" })
    }
}

impl FromStr for Architecture {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_prefix("sm_").map(|rest| rest.strip_suffix('a').unwrap_or(rest));
        match number.and_then(|n| n.parse::<u32>().ok()) {
            Some(n) => Self::new(n / 10, n % 10),
            None => Err(unsupported(format!("{text:?}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Architecture;

    #[test]
    fn code_of_the_same_major_version_runs_unless_it_is_for_one_device_alone() {
        let runs = |major, minor| {
            let own = Architecture::new(major, minor).unwrap();
            own.runs().map(|other| other.to_string()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(runs(8, 0), "sm_80");
        assert_eq!(runs(8, 6), "sm_86 sm_85 sm_84 sm_83 sm_82 sm_81 sm_80");
        assert_eq!(runs(9, 0), "sm_90a");
        assert_eq!(runs(9, 1), "sm_91");
        assert_eq!(runs(10, 3), "sm_103 sm_102 sm_101 sm_100");
        let target = |known: &[u32]| Architecture::new(8, 9).unwrap().target(known);
        assert_eq!(target(&[75, 80, 86, 90]).unwrap().to_string(), "sm_86");
        assert!(target(&[75, 90]).is_err());
    }
}
