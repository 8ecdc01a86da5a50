//! Who calls whom in an x86-64 image, from its machine code.
//!
//! Every direct call and jump that leaves a function is followed. So is a call through a word that
//! the loader fills with an import. A jump through a table of code addresses stays inside its
//! function. Any other indirect call cannot be followed and is an error, so that nothing is
//! overlooked: the core makes none, being generic over its platform.

use std::collections::{BTreeMap, VecDeque};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use crate::image::{Function, Image};

/// What can be reached from one function.
#[derive(Debug)]
pub(crate) struct Reached {
    /// Each function or import that is reached, and who reached it first.
    callers: BTreeMap<String, Option<String>>,
}

/// Walks the calls from the function called `root`.
pub(crate) fn reach(image: &Image, root: &str) -> Result<Reached, String> {
    let start = image.functions.iter().find(|function| function.name == root);
    let start = start.ok_or_else(|| format!("the image has no function {root}"))?;
    let mut callers = BTreeMap::from([(root.to_owned(), None)]);
    let mut queue = VecDeque::from([start]);
    while let Some(function) = queue.pop_front() {
        for callee in callees(image, function)? {
            let name = match callee {
                Callee::Function(function) => &function.name,
                Callee::Import(name) => name,
            };
            if callers.contains_key(name) {
                continue;
            }
            callers.insert(name.clone(), Some(function.name.clone()));
            if let Callee::Function(function) = callee {
                queue.push_back(function);
            }
        }
    }
    Ok(Reached { callers })
}

impl Reached {
    /// Names of everything that was reached, the root among them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.callers.keys().map(String::as_str)
    }

    /// "probe_poll -> take -> core::panicking::panic_fmt"
    pub(crate) fn path_to(&self, name: &str) -> String {
        let mut path = vec![name];
        let mut at = name;
        // Each function has one first caller, which was reached before it: this ends at the root.
        while let Some(Some(caller)) = self.callers.get(at) {
            path.push(caller);
            at = caller;
        }
        path.reverse();
        path.join(" -> ")
    }
}

enum Callee<'a> {
    Function(&'a Function),
    Import(&'a String),
}

fn callees<'a>(image: &'a Image, function: &Function) -> Result<Vec<Callee<'a>>, String> {
    let mut callees = Vec::new();
    for instruction in Decoder::with_ip(64, &function.code, function.address, DecoderOptions::NONE)
    {
        let offset = instruction.ip() - function.address;
        let at = || format!("{} + {offset:#x}", function.name);
        match instruction.flow_control() {
            FlowControl::Call
            | FlowControl::UnconditionalBranch
            | FlowControl::ConditionalBranch => {
                let target = instruction.near_branch_target();
                if target.wrapping_sub(function.address) < function.code.len() as u64 {
                    // A jump inside the function, or a call of itself.
                    continue;
                }
                let callee = image.function_at(target);
                let callee = callee.ok_or_else(|| {
                    format!("{} goes to {target:#x}, where there is no function", at())
                })?;
                callees.push(Callee::Function(callee));
            }
            FlowControl::IndirectCall | FlowControl::IndirectBranch => {
                if let Some(name) = import(image, &instruction) {
                    callees.push(Callee::Import(name));
                } else if !is_table_jump(&instruction) {
                    return Err(format!("{} calls what only a run can tell", at()));
                }
            }
            _ if instruction.is_invalid() => {
                return Err(format!("{} is no instruction", at()));
            }
            _ => {}
        }
    }
    Ok(callees)
}

/// The import whose address the loader puts where `instruction` takes its target from.
fn import<'a>(image: &'a Image, instruction: &Instruction) -> Option<&'a String> {
    let slot = match (instruction.op0_kind(), instruction.memory_base()) {
        (OpKind::Memory, Register::RIP) => instruction.ip_rel_memory_address(),
        _ => return None,
    };
    image.import_slots.get(&slot)
}

/// Whether this is how a `match` jumps in an image of fixed position: `jmp [8 * index + table]`.
fn is_table_jump(instruction: &Instruction) -> bool {
    instruction.flow_control() == FlowControl::IndirectBranch
        && instruction.op0_kind() == OpKind::Memory
        && instruction.memory_base() == Register::None
        && instruction.memory_index() != Register::None
        && instruction.memory_index_scale() == 8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Functions of 16 bytes each, from 0x1000 on, filled up with `nop`.
    fn image(functions: &[(&str, &[u8])]) -> Image {
        let functions = functions.iter().zip(0u64..).map(|((name, code), index)| {
            let mut code = code.to_vec();
            code.resize(16, 0x90);
            Function { name: (*name).to_owned(), address: 0x1000 + 16 * index, code }
        });
        Image {
            functions: functions.collect(),
            import_slots: BTreeMap::from([(0x3000, "memcpy".to_owned())]),
            ..Image::default()
        }
    }

    #[test]
    fn calls_and_tail_calls_are_followed() {
        // root: call 0x1010; middle: jmp 0x1020; end: ret; apart: ret
        let image = image(&[
            ("root", &[0xe8, 0x0b, 0, 0, 0]),
            ("middle", &[0xe9, 0x0b, 0, 0, 0]),
            ("end", &[0xc3]),
            ("apart", &[0xc3]),
        ]);
        let reached = reach(&image, "root").unwrap();
        assert_eq!(reached.names().collect::<Vec<_>>(), ["end", "middle", "root"]);
        assert_eq!(reached.path_to("end"), "root -> middle -> end");
    }

    #[test]
    fn a_loop_of_calls_ends() {
        // a: call 0x1010; b: je 0x1000
        let image = image(&[("a", &[0xe8, 0x0b, 0, 0, 0]), ("b", &[0x74, 0xee])]);
        assert_eq!(reach(&image, "a").unwrap().names().count(), 2);
    }

    #[test]
    fn an_import_is_named() {
        // call [rip + 0x1ffa], which is the word at 0x3000
        let image = image(&[("root", &[0xff, 0x15, 0xfa, 0x1f, 0, 0])]);
        let reached = reach(&image, "root").unwrap();
        assert_eq!(reached.path_to("memcpy"), "root -> memcpy");
    }

    #[test]
    fn a_call_that_cannot_be_followed_is_an_error() {
        // call rax; call [rdi + 24]; jmp rax
        for code in [&[0xff, 0xd0][..], &[0xff, 0x57, 0x18], &[0xff, 0xe0]] {
            let error = reach(&image(&[("root", code)]), "root").unwrap_err();
            assert_eq!(error, "root + 0x0 calls what only a run can tell");
        }
    }

    #[test]
    fn a_jump_through_a_table_stays_inside() {
        // jmp [8 * rax + 0x2000]
        let image = image(&[("root", &[0xff, 0x24, 0xc5, 0, 0x20, 0, 0])]);
        assert_eq!(reach(&image, "root").unwrap().names().count(), 1);
    }

    #[test]
    fn a_call_out_of_the_known_code_is_an_error() {
        let image = image(&[("root", &[0xe8, 0, 0x20, 0, 0])]);
        assert!(reach(&image, "root").unwrap_err().contains("no function"));
        assert!(reach(&image, "other").unwrap_err().contains("no function other"));
    }
}
