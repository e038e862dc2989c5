//! Which instructions the functions of an ELF image hold, themselves or in what they call directly.
//!
//! A disassembler of our own choosing, and not a program of the machine's, so that the result is the same everywhere.

use std::collections::{BTreeMap, BTreeSet};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Mnemonic, OpKind};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};

struct Function {
    name: String,
    mnemonics: BTreeSet<Mnemonic>,
    calls: Vec<u64>,
}

/// The functions of an image, by address.
pub struct Image(BTreeMap<u64, Function>);

impl Image {
    /// Disassembles every function that has a symbol.
    ///
    /// # Errors
    /// What makes it no ELF image.
    pub fn read(bytes: &[u8]) -> Result<Self, object::Error> {
        let file = object::File::parse(bytes)?;
        let mut functions = BTreeMap::new();
        for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0) {
            let Some(section) = symbol.section_index() else { continue };
            let section = file.section_by_index(section)?;
            let Some(code) = section.data_range(symbol.address(), symbol.size())? else { continue };
            let (mut mnemonics, mut calls) = (BTreeSet::new(), Vec::new());
            for instruction in Decoder::with_ip(64, code, symbol.address(), DecoderOptions::NONE) {
                mnemonics.insert(instruction.mnemonic());
                let flow = instruction.flow_control();
                let leaves = matches!(flow, FlowControl::Call | FlowControl::UnconditionalBranch);
                if leaves && instruction.op0_kind() == OpKind::NearBranch64 {
                    calls.push(instruction.near_branch_target());
                }
            }
            let name = symbol.name().unwrap_or_default().to_owned();
            functions.insert(symbol.address(), Function { name, mnemonics, calls });
        }
        Ok(Self(functions))
    }

    /// For each function whose symbol holds all of these parts: which instructions it and its callees hold.
    #[must_use]
    pub fn instructions(&self, parts: &[&str]) -> Vec<BTreeSet<Mnemonic>> {
        let wanted = self.0.values().filter(|function| parts.iter().all(|part| function.name.contains(part)));
        wanted
            .map(|function| {
                let callees = function.calls.iter().filter_map(|at| self.0.get(at));
                callees.fold(function.mnemonics.clone(), |all, callee| &all | &callee.mnemonics)
            })
            .collect()
    }
}
