//! The layout table: one line per field, with the offset the vendor's header gives it.
//!
//! Size and every offset are asserted at compile time, so a wrong line does not build. All fields
//! are little endian and unaligned ([`U16`](super::U16) and kin); reserved ones are public too, so
//! that `..Default::default()` works everywhere, and stay zero.

/// Declares wire structs: `struct Name: size { offset field: Type = "doc", ... }`.
macro_rules! layout {
    ($(
        $(#[$meta:meta])*
        $vis:vis struct $name:ident: $size:literal {
            $( $offset:literal $field:ident: $ty:ty = $doc:literal, )*
        }
    )*) => { $(
        $(#[$meta])*
        #[derive(
            Clone,
            Copy,
            Debug,
            PartialEq,
            Eq,
            zerocopy::FromBytes,
            zerocopy::IntoBytes,
            zerocopy::KnownLayout,
            zerocopy::Immutable,
            zerocopy::Unaligned,
        )]
        #[repr(C)]
        $vis struct $name {
            $(
                #[doc = concat!("`", stringify!($offset), "`: ", $doc, ".")]
                pub $field: $ty,
            )*
        }

        const _: () = {
            assert!(core::mem::size_of::<$name>() == $size);
            $( assert!(core::mem::offset_of!($name, $field) == $offset); )*
        };

        impl Default for $name {
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    )* };
}

pub(crate) use layout;
