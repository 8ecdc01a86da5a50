//! What a linked ELF image holds: its read-only bytes, its functions, what it takes from outside.

use std::collections::BTreeMap;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionKind, SymbolKind};

/// A linked image, as far as the checks look at it.
#[derive(Debug, Default)]
pub(crate) struct Image {
    /// The sum of the sizes of its executable and its read-only loaded sections, in bytes, unwind
    /// tables left out.
    pub(crate) text_bytes: u64,
    /// Its functions, by address.
    pub(crate) functions: Vec<Function>,
    /// Names of all its symbols, readable.
    pub(crate) symbols: Vec<String>,
    /// Symbols that it expects the system to bring.
    pub(crate) imports: Vec<String>,
    /// Words that the loader fills with an import's address: address of the word to name.
    pub(crate) import_slots: BTreeMap<u64, String>,
}

/// A function with its machine code.
#[derive(Clone, Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) address: u64,
    pub(crate) code: Vec<u8>,
}

impl Image {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let file =
            object::File::parse(bytes).map_err(|error| format!("reading the image: {error}"))?;
        let mut image = Self::default();
        for section in file.sections() {
            // The precompiled `core` brings unwind tables on some targets, which nothing reads in
            // an image that cannot unwind, and which a firmware image leaves out.
            let is_unwind_table = section.name().is_ok_and(|name| name.starts_with(".eh_frame"));
            let is_text = matches!(
                section.kind(),
                SectionKind::Text | SectionKind::ReadOnlyData | SectionKind::ReadOnlyString
            );
            if is_text && !is_unwind_table {
                image.text_bytes += section.size();
            }
        }
        for symbol in file.symbols() {
            let name = readable(symbol.name().unwrap_or_default());
            if symbol.kind() == SymbolKind::Text
                && let Some(section) = symbol.section_index()
                && let Ok(section) = file.section_by_index(section)
            {
                // The lowest bit of a Thumb function's address says that it is one.
                let address = symbol.address() & !u64::from(!file.is_64());
                let code = section.data_range(address, symbol.size()).ok().flatten();
                let code = code.unwrap_or_default().to_owned();
                image.functions.push(Function { name: name.clone(), address, code });
            }
            // Mapping symbols of the ARM ABI ($t, $d) name nothing.
            if !name.is_empty() && !name.starts_with('$') {
                image.symbols.push(name);
            }
        }
        image.functions.sort_by_key(|function| function.address);
        let undefined =
            file.symbols().chain(file.dynamic_symbols()).filter(ObjectSymbol::is_undefined);
        image.imports = undefined.filter_map(|s| s.name().ok().map(readable)).collect();
        image.imports.retain(|name| !name.is_empty());
        image.imports.sort();
        image.imports.dedup();
        for (address, relocation) in file.dynamic_relocations().into_iter().flatten() {
            if let RelocationTarget::Symbol(index) = relocation.target()
                && let Some(table) = file.dynamic_symbol_table()
                && let Ok(symbol) = object::ObjectSymbolTable::symbol_by_index(&table, index)
            {
                image.import_slots.insert(address, readable(symbol.name().unwrap_or_default()));
            }
        }
        if image.functions.is_empty() {
            return Err("the image names no function; was it stripped?".to_owned());
        }
        Ok(image)
    }

    /// The function that `address` lies in.
    pub(crate) fn function_at(&self, address: u64) -> Option<&Function> {
        let after = self.functions.partition_point(|function| function.address <= address);
        let function = self.functions.get(after.checked_sub(1)?)?;
        (address - function.address < function.code.len() as u64).then_some(function)
    }
}

/// A symbol's name without mangling and hash.
fn readable(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_its_function_or_in_none() {
        let function = |name: &str, address, length| Function {
            name: name.to_owned(),
            address,
            code: vec![0x90; length],
        };
        let functions = vec![function("a", 0x1000, 16), function("b", 0x1020, 8)];
        let image = Image { functions, ..Image::default() };
        let name_at = |address| image.function_at(address).map(|function| function.name.as_str());
        assert_eq!(name_at(0x0fff), None);
        assert_eq!(name_at(0x1000), Some("a"));
        assert_eq!(name_at(0x100f), Some("a"));
        assert_eq!(name_at(0x1010), None);
        assert_eq!(name_at(0x1027), Some("b"));
        assert_eq!(name_at(0x1028), None);
    }

    #[test]
    fn this_very_program_can_be_read() {
        let program = std::env::current_exe().expect("a path");
        let image = Image::parse(&std::fs::read(program).expect("its bytes")).expect("an image");
        assert!(image.text_bytes > 10_000);
        assert!(image.symbols.iter().any(|name| name.contains("core::panicking")));
        assert!(image.imports.iter().any(|name| name.starts_with("memcpy")));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(Image::parse(b"#!/bin/sh").is_err());
    }
}
