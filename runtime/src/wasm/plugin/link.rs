//! Links compiled code: everything that it imports is offered, and what it must export is there, or it is refused by name.

use std::sync::Arc;

use wasmtime::component::Component;
use wasmtime::component::types::{self, ComponentItem};
use wasmtime::{Engine, Module};

use super::{Code, PluginError, chain};
use crate::wasm::exports::Exports;
use crate::wasm::host;
use crate::wasm::image;
use crate::wasm::spawn::Host;

type Linked = (Code, Vec<String>, Vec<String>);

/// `image` is what the component brings, if it asks for one.
pub(super) fn component(host: &Host, component: &Component, image: Option<&Module>) -> Result<Linked, PluginError> {
    let ty = component.component_type();
    let imports: Vec<String> = ty.imports(host.engine()).map(|(name, _)| name.to_owned()).collect();
    let exports: Vec<String> = ty.exports(host.engine()).map(|(name, _)| name.to_owned()).collect();
    check_contract(imports.iter().chain(&exports))?;
    let brought = |name: &str| image.is_some() && image::OFFERED.contains(&name);
    let mut unknown: Vec<String> = imports.iter().filter(|name| !(offered(name) || brought(name))).cloned().collect();
    unknown.extend(unknown_functions(host.engine(), &ty));
    if !unknown.is_empty() {
        return Err(PluginError::UnknownImports { names: unknown });
    }
    let pre = match image {
        Some(image) => image::linked(host, component, image),
        None => host.component_linker().instantiate_pre(component),
    };
    let pre = pre.map_err(|e| link_error(&e))?;
    let found = Exports::of(pre);
    if !found.is_plugin() {
        return Err(no_plugin(&exports));
    }
    Ok((Code::Component(Arc::new(found)), imports, exports))
}

fn no_plugin(exports: &[String]) -> PluginError {
    let needed =
        ["handler", "batch", "middleware"].map(|name| format!("{}{name}@{}", host::PACKAGE, host::CONTRACT_VERSION));
    let hint = if exports.iter().any(|name| interface(name) == "wasi:cli/run") {
        "it is a WASI command built as a component: build it for wasm32-wasip1 instead, or export the handler"
    } else {
        "build it for the world `plugin` of the contract that `runner plugin wit` prints"
    };
    PluginError::MissingExports { names: vec![needed.join(" or ")], hint }
}

pub(super) fn command(host: &Host, module: &Module) -> Result<Linked, PluginError> {
    let imports: Vec<String> =
        module.imports().map(|import| format!("{}.{}", import.module(), import.name())).collect();
    let exports: Vec<String> = module.exports().map(|export| export.name().to_owned()).collect();
    let unknown: Vec<String> =
        imports.iter().filter(|name| !name.starts_with("wasi_snapshot_preview1.")).cloned().collect();
    if !unknown.is_empty() {
        return Err(PluginError::UnknownImports { names: unknown });
    }
    let start = module.get_export("_start").and_then(|ty| ty.func().cloned());
    if !start.is_some_and(|ty| ty.params().len() == 0 && ty.results().len() == 0) {
        let hint = "a core module must be a WASI command (wasm32-wasip1, a program with `main`); \
                    a library becomes a plugin with `wasm-tools component new`";
        return Err(PluginError::MissingExports { names: vec!["_start".to_owned()], hint });
    }
    let pre = host.command_linker().instantiate_pre(module).map_err(|e| link_error(&e))?;
    Ok((Code::Command(pre), imports, exports))
}

/// A name without its version.
fn interface(name: &str) -> &str {
    name.split_once('@').map_or(name, |(interface, _)| interface)
}

fn version(name: &str) -> &str {
    name.split_once('@').map_or("", |(_, version)| version)
}

/// Every interface of the contract must be of a version that is served; a later patch may be.
fn check_contract<'a>(mut names: impl Iterator<Item = &'a String>) -> Result<(), PluginError> {
    let served = host::CONTRACT_VERSION;
    match names.find(|name| name.starts_with(host::PACKAGE) && !version(name).starts_with("0.1.")) {
        Some(found) => Err(PluginError::ContractVersion { found: found.clone(), served }),
        None => Ok(()),
    }
}

/// Functions of the contract's interfaces that a later patch of it added.
fn unknown_functions(engine: &Engine, ty: &types::Component) -> Vec<String> {
    let mut unknown = Vec::new();
    for (import, item) in ty.imports(engine) {
        let Some(own) = interface(import).strip_prefix(host::PACKAGE) else { continue };
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let functions = instance.exports(engine).filter(|(_, item)| matches!(item.ty, ComponentItem::ComponentFunc(_)));
        let missing = functions.filter(|(function, _)| !host::offers(own, function));
        unknown.extend(missing.map(|(function, _)| format!("{import}#{function}")));
    }
    unknown
}

fn offered(import: &str) -> bool {
    let (interface, version) = (interface(import), version(import));
    if let Some(own) = interface.strip_prefix(host::PACKAGE) {
        return host::OFFERED.contains(&own);
    }
    version.starts_with("0.2.") && host::WASI_OFFERED.iter().any(|package| interface.starts_with(package))
}

fn link_error(error: &wasmtime::Error) -> PluginError {
    match error.downcast_ref::<wasmtime::UnknownImportError>() {
        Some(unknown) => {
            PluginError::UnknownImports { names: vec![format!("{}.{}", unknown.module(), unknown.name())] }
        }
        None => PluginError::Link { message: chain(error) },
    }
}
