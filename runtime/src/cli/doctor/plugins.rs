//! The folder of plugins: each is compiled and checked as a start would, and what it asks for and does not get is said.

use std::path::Path;
use std::sync::Arc;

use super::Finding;
use crate::cli::exit::Failure;
use crate::cli::open;
use crate::operator::Operator;
use crate::wasm::CompileLimits;
use crate::wasm::folder;

pub(super) fn check(path: &Path, operator: Operator) -> Vec<Finding> {
    match look(path, Arc::new(operator)) {
        Ok(found) => found,
        Err(Failure { message, .. }) => {
            vec![Finding::wrong("plugins", message, "name the folder that has the plugins with --plugins")]
        }
    }
}

fn look(path: &Path, operator: Arc<Operator>) -> Result<Vec<Finding>, Failure> {
    let unusable = |error: folder::FolderError| Failure::usage(error.to_string());
    folder::check(path).map_err(unusable)?;
    let host = open::host(Some(1), Arc::clone(&operator), None, CompileLimits::default())?;
    let is_tenant = |name: &str| operator.tenant(name).is_some();
    let (registry, reports) = folder::load(&host, path, &is_tenant).map_err(unusable)?;
    let mut found = Vec::new();
    for report in reports {
        let mend = "build it again, or take it out of the folder; `runner plugin check FILE` says more";
        found.push(Finding::wrong("plugins", format!("{}: {}", report.path.display(), report.problem), mend));
    }
    for (tenant, plugin) in registry.plugins() {
        for missing in plugin.grants().missing() {
            let what = format!("{tenant}/{} asks for something that it does not get", plugin.name());
            found.push(Finding::look("grants", what, missing));
        }
        for warning in &plugin.describe().warnings {
            let mend = "see its manifest; `runner plugin check FILE` says more";
            found.push(Finding::look("plugins", format!("{tenant}/{}: {warning}", plugin.name()), mend));
        }
    }
    let kinds = registry.served().count();
    found.push(Finding::good("plugins", format!("{} load, for {kinds} kinds", registry.plugins().count())));
    Ok(found)
}
