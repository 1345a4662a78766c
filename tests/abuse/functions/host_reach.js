// Looks for a way out: modules, processes, files, the network.
// ends: ok
function handle() {
    const found = [];
    const look = (what, value) => {
        if (value !== undefined) found.push([what, String(value)]);
    };
    for (const name of ["require", "process", "std", "os", "Deno", "Bun", "module", "exports", "__dirname", "scriptArgs", "bjson", "load",
        "loadScript", "read", "readFile", "print", "quit", "Worker", "XMLHttpRequest", "WebAssembly", "Javy", "WebSocket", "importScripts"]) {
        look(name, globalThis[name]);
    }
    const codes = ["import('std')", "import('os')", "import('fs')", "import('file:///etc/passwd')", "require('child_process')", "std.loadFile('/etc/passwd')",
        "os.readdir('/')", "this.constructor.constructor('return process')()", "handle.constructor('return globalThis.process')()",
        "(async () => {}).constructor('return import(\"os\")')()", "Reflect.construct(log.constructor, ['return this.std'])()"];
    for (const code of codes) {
        try {
            const value = eval(code);
            if (value instanceof Promise) value.then((module) => found.push([code, "LOADED"]), () => {});
            else look(code, value);
        } catch {
        }
    }
    return Promise.resolve().then(() => found);
}
