//! Codes the device or a standard defines: open newtypes that keep unknown values.
//!
//! A closed `enum` would force a choice between rejecting a newer firmware's code and undefined
//! behaviour; these keep the number, name the known ones and print both.

/// Declares an open newtype over an integer with named constants, `name()`, `Display` and `Debug`.
///
/// `struct Status(u16 & 0x7fff)` names the value under the mask only.
macro_rules! codes {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident($int:ident $(& $mask:literal)?) {
            $( $constant:ident = $value:literal, $text:literal; )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "defmt", derive(defmt::Format))]
        #[repr(transparent)]
        $vis struct $name(pub $int);

        impl $name {
            $(
                #[doc = concat!("`", stringify!($value), "`: ", $text, ".")]
                pub const $constant: Self = Self($value);
            )*

            /// The code in words; `"unknown"` for a code this table does not have.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self.0 $(& $mask)? {
                    $( $value => $text, )*
                    _ => "unknown",
                }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{} ({:#04x})", self.name(), self.0 $(& $mask)?)
            }
        }

        impl core::fmt::Debug for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                write!(f, "{}({:#04x}: {})", stringify!($name), self.0, self.name())
            }
        }
    };
}

pub(crate) use codes;
