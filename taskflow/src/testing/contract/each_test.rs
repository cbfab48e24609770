//! The macro that makes a test of each case.

/// Makes a test of each case of a part.
#[doc(hidden)]
#[macro_export]
macro_rules! __store_contract_tests {
    (basic: $suite:expr) => {
        $crate::__store_contract_cases! { [$crate::__store_contract_test] basic ($suite) }
    };
    (full: $suite:expr) => {
        $crate::__store_contract_cases! { [$crate::__store_contract_test] full ($suite) }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __store_contract_test {
    (basic ($suite:expr) basic { $($room:ident: $name:ident;)* } $($more:tt)*) => {
        $(
            #[test]
            fn $name() {
                $crate::testing::contract::Suite::run(&$suite, ::std::stringify!($name));
            }
        )*
    };
    (full ($suite:expr) basic { $($basic:tt)* } full { $($full:tt)* } histories { $($histories:tt)* }) => {
        $crate::__store_contract_test! { basic ($suite) basic { $($basic)* $($full)* $($histories)* } }
    };
}
