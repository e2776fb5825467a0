//! Compile bombs: small files that are much work for a compiler. Made byte by byte, as the text of some would be huge.

/// A WASI command of these functions without parameters; the first one is `_start`. Each body has its locals in front and
/// `end` behind.
fn command(bodies: &[Vec<u8>]) -> Vec<u8> {
    let mut types = vec![1, 0x60, 0, 0];
    let mut functions = leb(bodies.len());
    functions.extend(std::iter::repeat_n(0, bodies.len()));
    let mut exports = vec![1, 6];
    exports.extend(b"_start");
    exports.extend([0, 0]);
    let mut code = leb(bodies.len());
    for body in bodies {
        code.extend(leb(body.len()));
        code.extend(body);
    }
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, section) in [(1, &mut types), (3, &mut functions), (7, &mut exports), (10, &mut code)] {
        module.push(id);
        module.extend(leb(section.len()));
        module.append(section);
    }
    module
}

/// A function with so many `i32` locals and this code.
fn body(locals: usize, code: impl IntoIterator<Item = u8>) -> Vec<u8> {
    let mut body = if locals == 0 { vec![0] } else { [vec![1], leb(locals), vec![0x7f]].concat() };
    body.extend(code);
    body.push(0x0b);
    body
}

fn leb(mut n: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let seven = u8::try_from(n & 0x7f).unwrap();
        n >>= 7;
        bytes.push(if n == 0 { seven } else { seven | 0x80 });
        if n == 0 {
            return bytes;
        }
    }
}

fn times(n: usize, code: &[u8]) -> impl Iterator<Item = u8> {
    code.iter().copied().cycle().take(n * code.len())
}

/// A number to begin with, so that no two bombs have the same digest.
fn mark(n: u32) -> Vec<u8> {
    let mut code = vec![0x41];
    code.extend(leb(n as usize & 0x3f));
    code.push(0x1a);
    code.extend(std::iter::repeat_n(0x01, (n >> 6) as usize));
    code
}

/// Many functions, each with a loop over a few locals.
pub(crate) fn functions(n: usize, seed: u32) -> Vec<u8> {
    let work = [0x20, 0, 0x20, 1, 0x6a, 0x21, 0, 0x20, 1, 0x20, 2, 0x6c, 0x21, 1];
    let one = body(4, [mark(seed), vec![0x03, 0x40], times(4, &work).collect(), vec![0x20, 3, 0x0d, 0, 0x0b]].concat());
    command(&vec![one; n])
}

/// One function of so many bytes.
pub(crate) fn one_function(bytes: usize, seed: u32) -> Vec<u8> {
    let work = [0x20, 0, 0x20, 1, 0x6a, 0x21, 0];
    command(&[body(2, mark(seed).into_iter().chain(times(bytes / work.len(), &work)))])
}

/// Many locals, all of them alive through many loops.
pub(crate) fn locals(n: usize, loops: usize, seed: u32) -> Vec<u8> {
    let mut code = mark(seed);
    code.extend(times(loops, &[0x03, 0x40]));
    for local in 0..n {
        code.push(0x20);
        code.extend(leb(local));
        code.extend([0x41, 1, 0x6a, 0x21]);
        code.extend(leb((local * 7 + 1) % n));
    }
    code.extend(times(loops, &[0x20, 0, 0x0d, 0, 0x0b]));
    command(&[body(n, code)])
}

/// Blocks in blocks.
pub(crate) fn nested(depth: usize, seed: u32) -> Vec<u8> {
    command(&[body(0, mark(seed).into_iter().chain(times(depth, &[0x02, 0x40])).chain(times(depth, &[0x0b])))])
}

/// Tables of branches, each with so many targets.
pub(crate) fn branches(tables: usize, targets: usize, seed: u32) -> Vec<u8> {
    let mut code = mark(seed);
    for _ in 0..tables {
        code.extend([0x02, 0x40, 0x02, 0x40, 0x20, 0, 0x0e]);
        code.extend(leb(targets));
        code.extend(times(targets / 2, &[0, 1]));
        code.extend([0, 0x0b, 0x0b]);
    }
    command(&[body(1, code)])
}

/// Numbers upon numbers, which are added at the end.
pub(crate) fn stack(depth: usize, seed: u32) -> Vec<u8> {
    let code = mark(seed).into_iter().chain(times(depth, &[0x20, 0])).chain(times(depth - 1, &[0x6a])).chain([0x1a]);
    command(&[body(1, code)])
}

/// Components in components.
pub(crate) fn components(depth: usize) -> Vec<u8> {
    let mut inner = b"\0asm\x0d\0\x01\0".to_vec();
    for _ in 0..depth {
        let mut outer = b"\0asm\x0d\0\x01\0\x04".to_vec();
        outer.extend(leb(inner.len()));
        outer.append(&mut inner);
        inner = outer;
    }
    inner
}
