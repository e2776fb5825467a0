//! Runs the function, in an interpreter, with nothing around it.

use wasmi::{
    Caller, CompilationMode, Config, Engine, Error as Trap, Extern, ExternType, Instance, Linker, Module, Store, Val,
};

use super::{Error, INITIALIZE};

/// What may be asked of WASI without an answer that matters: 0, and so many bytes of zeros where the parameters of these
/// numbers point to.
const HARMLESS: [(&str, &[(usize, usize)]); 8] = [
    ("random_get", &[]),
    ("clock_time_get", &[(2, 8)]),
    ("environ_sizes_get", &[(0, 4), (1, 4)]),
    ("environ_get", &[]),
    ("insecure-seed", &[(0, 16)]),
    ("get-random-u64", &[]),
    ("now", &[]),
    ("get-environment", &[(0, 8)]),
];
/// Of this, the first parameter is where and the second how many.
const RANDOM_GET: &str = "random_get";

/// The memory of an instance, once it has been initialised and the function has been called.
pub(super) fn memory_after(module: &[u8], function: &str) -> Result<Vec<u8>, Error> {
    let mut config = Config::default();
    config.compilation_mode(CompilationMode::LazyTranslation);
    let engine = Engine::new(&config);
    let module = Module::new(&engine, module)?;
    let mut store = Store::new(&engine, ());
    let mut linker = Linker::new(&engine);
    for import in module.imports() {
        let (from, name) = (import.module().to_owned(), import.name().to_owned());
        let ExternType::Func(ty) = import.ty() else { return Err(Error::Import(name)) };
        let answer =
            move |caller: Caller<'_, ()>, params: &[Val], _: &mut [Val]| answered(caller, &from, &name, params);
        linker.func_new(import.module(), import.name(), ty.clone(), answer).map_err(Trap::from)?;
    }
    let instance = linker.instantiate_and_start(&mut store, &module)?;
    if instance.get_func(&store, INITIALIZE).is_some() {
        call(instance, &mut store, INITIALIZE)?;
    }
    call(instance, &mut store, function)?;
    let memory = instance.get_memory(&store, "memory").ok_or(Error::NoMemory)?;
    Ok(memory.data(&store).to_vec())
}

fn call(instance: Instance, store: &mut Store<()>, name: &str) -> Result<(), Error> {
    let function = instance.get_typed_func::<(), ()>(&*store, name).map_err(|_| Error::NoFunction(name.to_owned()))?;
    Ok(function.call(store, ())?)
}

/// Results are zero as they come.
fn answered(mut caller: Caller<'_, ()>, from: &str, name: &str, params: &[Val]) -> Result<(), Trap> {
    let harmless = HARMLESS.iter().find(|(known, _)| from.starts_with("wasi") && *known == name);
    let Some((_, writes)) = harmless else {
        return Err(Trap::new(format!("it calls `{name}` of `{from}`, which there is not while a snapshot is made")));
    };
    let word = |at: usize| params.get(at).and_then(Val::i32).map_or(0, |word| word as u32 as usize);
    if name == RANDOM_GET {
        return zero(&mut caller, word(0), word(1));
    }
    writes.iter().try_for_each(|(param, bytes)| zero(&mut caller, word(*param), *bytes))
}

fn zero(caller: &mut Caller<'_, ()>, at: usize, bytes: usize) -> Result<(), Trap> {
    let memory = caller.get_export("memory").and_then(Extern::into_memory);
    let memory = memory.ok_or_else(|| Trap::new("it has no memory to answer into"))?;
    Ok(memory.write(caller, at, &vec![0; bytes])?)
}
