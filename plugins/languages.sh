# shellcheck shell=bash disable=SC2154 # `root`, `dist`, `target_dir`, `sha256` and the functions called are those of plugins/build
# What `plugins/build` does for languages other than Rust: the examples in plugins/, and the test handlers of
# plugin-sdk/conformance, which go to plugins/target/conformance. A language whose tools are not there is left out, loudly, with
# the command that installs them; `--install` runs it. Nothing is built that has not changed.

CLANG_PACKAGES="clang-19 libclang-rt-19-dev-wasm32 lld-19 wasi-libc"
COMPONENTIZE_PY="componentize-py==0.25.1"
TYPESCRIPT="typescript@7.0.2"
GO_MINOR_MIN=24

build_languages() { # INSTALL
  conformance=$target_dir/conformance skipped=
  mkdir -p "$conformance" "$target_dir/stamps" "$dist"
  build_engine
  build_c "$1"
  build_go
  build_scripts
  build_typescript "$1"
  build_python "$1"
  [ -z "$skipped" ] || printf 'plugins: NOT BUILT:%s\n' "$skipped" >&2
}

# A language that cannot be built here; the rest goes on.
skip() { # LANGUAGE WHAT COMMAND
  skipped="$skipped
  $1: $2; this installs it:
    $3"
}

# Runs a command unless its inputs are as they were and its output is there.
made() { # NAME OUTPUT INPUTS... -- COMMAND...
  local name=$1 output=$2 inputs= digest
  shift 2
  while [ "$1" != -- ]; do inputs="$inputs $1"; shift; done
  shift
  # shellcheck disable=SC2086 # names of files and folders, one word each
  digest=$({ echo "$*"; find plugins/languages.sh $inputs -name target -prune -o -name __pycache__ -prune -o -type f -print0 |
    LC_ALL=C sort -z | xargs -0 $sha256; } | $sha256 | cut -d ' ' -f 1)
  if [ -f "$output" ] && [ "$(cat "$target_dir/stamps/$name" 2> /dev/null)" = "$digest" ]; then return; fi
  begin_step
  if ! shown "$target_dir/$name.log" "$@"; then failed "$name is as it was"; fi
  echo "$digest" > "$target_dir/stamps/$name"
  end_step "$name" "$(kib "$output")"
}

# Puts a plugin and its manifest beside each other where they belong.
put() { # NAME FILE
  local file=$1.${2##*.}
  place "plugins/$1/$1.toml" "$1.toml"
  place "$2" "$file"
  reveal "$1.toml $file"
}

put_test() { # NAME FILE
  local to=$conformance/$1.${2##*.}
  cmp -s "$2" "$to" || cp "$2" "$to"
}

# --- the engine of scripts: Rust ------------------------------------------------------------------------------------------

build_engine() {
  build_tools
  made js-engine "$target_dir/js-engine.wasm" plugin-sdk/js/engine plugin-sdk/js/prelude.js plugin-sdk/wit plugin-sdk/snapshot -- \
    engine "$target_dir/js-engine.wasm"
  place "$target_dir/js-engine.wasm" js-engine.wasm
  reveal js-engine.wasm
}

# What takes every run of a script long is done here, once: the module begins with the memory that `prepare` left. That memory is
# then taken out of the component, as each script has one of its own.
engine() { # TO
  local made=$target_dir/js-engine
  (cd plugin-sdk/js/engine && run_cargo --locked --release --target-dir "$made") &&
    "$snapshot" "$made/$TARGET/release/js_engine.wasm" "$1.core" prepare &&
    "$componentize" "$1.core" "$1.whole" && "$snapshot" "$1.whole" "$1" && rm -f "$1.core" "$1.whole"
}

# What takes snapshots of modules, and wraps them as components. Unoptimised: so they are built in a third of the time, and
# work for a few seconds.
build_tools() {
  componentize=$target_dir/tools/debug/componentize snapshot=$target_dir/tools/debug/snapshot
  made tools "$componentize" Cargo.lock plugin-sdk/componentize plugin-sdk/snapshot plugin-sdk/wit -- \
    cargo build --locked -p runner-componentize -p runner-snapshot --target-dir "$target_dir/tools"
}

# --- C ------------------------------------------------------------------------------------------------------------------------

build_c() { # INSTALL
  find_clang || { [ "$1" = no ] || { apt_install "$CLANG_PACKAGES"; find_clang || true; }; }
  if [ -z "$clang" ]; then
    skip C "clang 16 or newer with a WebAssembly linker and wasi-libc" "apt-get install -y $CLANG_PACKAGES"
    return
  fi
  made conformance-c "$conformance/c.wasm" plugin-sdk/conformance/c plugin-sdk/c plugin-sdk/wit -- \
    c_component "$conformance/c.wasm" plugin-sdk/conformance/c/handler.c
  made checksum "$target_dir/checksum.wasm" plugins/checksum plugin-sdk/c plugin-sdk/wit -- \
    c_component "$target_dir/checksum.wasm" plugins/checksum/checksum.c
  put checksum "$target_dir/checksum.wasm"
}

find_clang() {
  clang= wasm_linker=
  [ -d /usr/lib/wasm32-wasi ] || return 1
  wasm_linker=$(first_of /usr/bin/wasm-ld-19 /usr/bin/wasm-ld-2[0-9] /usr/bin/wasm-ld-1[678] /usr/bin/wasm-ld) || return 1
  clang=$(first_of /usr/bin/clang-19 /usr/bin/clang-2[0-9] /usr/bin/clang-1[678] /usr/bin/clang)
}

c_component() { # TO SOURCE...
  local to=$1
  shift
  "$clang" --target=wasm32-wasi -mexec-model=reactor -O2 -std=c11 -Wall -Wextra -Werror "-fuse-ld=$wasm_linker" \
    -Wl,--strip-debug -Iplugin-sdk/c "$@" plugin-sdk/c/runner.c plugin-sdk/c/runner_wasm.c -o "$to.core" &&
    "$componentize" "$to.core" "$to" && rm -f "$to.core"
}

# --- Go -----------------------------------------------------------------------------------------------------------------------

build_go() {
  local version
  version=$(go env GOVERSION 2> /dev/null | sed -n 's/^go1\.\([0-9]*\).*/\1/p')
  if [ "${version:-0}" -lt $GO_MINOR_MIN ]; then
    skip Go "Go 1.$GO_MINOR_MIN or newer is not in PATH" "https://go.dev/dl has it; unpack it and put its bin into PATH"
    return
  fi
  made conformance-go "$conformance/go.wasm" plugin-sdk/conformance/go plugin-sdk/go plugin-sdk/wit -- \
    go_component "$conformance/go.wasm" plugin-sdk/conformance/go
  made conformance-go-command "$conformance/go-command.wasm" plugin-sdk/conformance/go plugin-sdk/go -- \
    go_command "$conformance/go-command.wasm" plugin-sdk/conformance/go
  made logstats "$target_dir/logstats.wasm" plugins/logstats plugin-sdk/go plugin-sdk/wit -- \
    go_component "$target_dir/logstats.wasm" plugins/logstats
  put logstats "$target_dir/logstats.wasm"
}

go_component() { # TO FOLDER
  (cd "$2" && GOOS=wasip1 GOARCH=wasm go build -tags component -buildmode=c-shared -trimpath '-ldflags=-s -w' -o "$1.core" .) &&
    "$componentize" "$1.core" "$1" && rm -f "$1.core"
}

go_command() { # TO FOLDER
  (cd "$2" && GOOS=wasip1 GOARCH=wasm go build -trimpath '-ldflags=-s -w' -o "$1" .)
}

# --- JavaScript and TypeScript ------------------------------------------------------------------------------------------------

build_scripts() {
  put hook plugins/hook/hook.js
  put_test js plugin-sdk/conformance/js/handler.js
}

build_typescript() { # INSTALL
  local tools=$target_dir/npm
  tsc=$tools/node_modules/.bin/tsc
  if [ ! -x "$tsc" ] && [ "$1" = yes ] && command -v npm > /dev/null; then
    npm install --silent --no-fund --no-audit --prefix "$tools" "$TYPESCRIPT" > /dev/null ||
      echo "plugins: npm could not install $TYPESCRIPT (offline?)"
  fi
  if [ ! -x "$tsc" ]; then
    if command -v npm > /dev/null; then
      skip TypeScript "the compiler is not in plugins/target/npm" "npm install --prefix plugins/target/npm $TYPESCRIPT"
    else
      skip TypeScript "npm, which brings the compiler, is not in PATH" "apt-get install -y npm, or https://nodejs.org"
    fi
    return
  fi
  made conformance-ts "$conformance/ts.js" plugin-sdk/conformance/ts plugin-sdk/js/runner.d.ts -- \
    typescript "$conformance/ts.js" plugin-sdk/conformance/ts/handler.ts
  made render "$target_dir/render.js" plugins/render plugin-sdk/js/runner.d.ts -- \
    typescript "$target_dir/render.js" plugins/render/render.ts
  put render "$target_dir/render.js"
}

typescript() { # TO SOURCE
  local out=$target_dir/ts
  rm -rf "$out"
  "$tsc" --ignoreConfig --strict --target es2022 --module esnext --lib es2023 --types '' --outDir "$out" "$2" &&
    mv -f "$out/$(basename "${2%.ts}").js" "$1"
}

# --- Python -------------------------------------------------------------------------------------------------------------------

build_python() { # INSTALL
  local tools=$target_dir/venv
  componentize_py=$tools/bin/componentize-py
  # It names its own path: in a folder that was moved it is there and does not start.
  if ! starts "$componentize_py" && [ "$1" = yes ] && command -v python3 > /dev/null; then
    install_componentize_py "$tools" ||
      echo "plugins: pip could not install $COMPONENTIZE_PY (offline, or no python3-venv?)"
  fi
  if ! starts "$componentize_py"; then
    skip Python "componentize-py is not in plugins/target/venv" \
      "python3 -m venv --clear plugins/target/venv && plugins/target/venv/bin/pip install $COMPONENTIZE_PY"
    return
  fi
  made conformance-python "$conformance/python.wasm" plugin-sdk/conformance/python plugin-sdk/python plugin-sdk/wit -- \
    python_component "$conformance/python.wasm" plugin-sdk/conformance/python handler
  made validate "$target_dir/validate.wasm" plugins/validate plugin-sdk/python plugin-sdk/wit -- \
    python_component "$target_dir/validate.wasm" plugins/validate validate
  put validate "$target_dir/validate.wasm"
}

starts() { # PROGRAM
  "$1" --version > /dev/null 2>&1
}

install_componentize_py() { # VENV
  # Debian's python3 comes without the module `venv`.
  python3 -m venv --clear "$1" > /dev/null 2>&1 || { apt_install python3-venv && python3 -m venv --clear "$1"; } || return 1
  "$1/bin/pip" install --quiet --disable-pip-version-check "$COMPONENTIZE_PY"
}

# componentize-py begins with a module that has the export and the handlers.
python_component() { # TO FOLDER MODULE
  local entry=$target_dir/python-entry
  mkdir -p "$entry"
  printf 'import %s\nfrom runner.guest import Handler\n' "$3" > "$entry/entry.py"
  "$componentize_py" --quiet -d plugin-sdk/wit -w plugin componentize -p "$entry" -p plugin-sdk/python -p "$2" entry -o "$1"
}
