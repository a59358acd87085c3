//! Enumerations whose variants are counted and named: each is listed once, so that none can be missing.

/// An enumeration with all its variants in a list, their places in it, and their names in statistics.
macro_rules! enumeration {
    ($(#[$documentation:meta])* $type:ident { $($(#[$of_variant:meta])* $variant:ident: $name:literal,)* }) => {
        $(#[$documentation])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $type { $($(#[$of_variant])* $variant,)* }

        impl $type {
            /// Every one, in the order of their places.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its place in [`ALL`](Self::ALL).
            pub(crate) const fn place(self) -> usize {
                self as usize
            }

            /// Its name in statistics.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

pub(crate) use enumeration;
