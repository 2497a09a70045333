// Runs once in each new runtime. Its value is the function that makes text of a value, for results, exceptions and the console alike.
(() => {
  const { __write: write, __exit: exit } = globalThis;
  delete globalThis.__write;
  delete globalThis.__exit;
  // Kept here: a script may put others in their places.
  const { stringify } = JSON;
  const text = String;
  const Failure = Error;
  const show = (value) => {
    if (value instanceof Failure) return `${value}\n${value.stack ?? ""}`.trimEnd();
    if (typeof value !== "object" || value === null) return text(value);
    try {
      return stringify(value) ?? text(value);
    } catch {
      // It refers to itself, or has a BigInt.
      return text(value);
    }
  };
  const printer = (stream) => (...values) => write(stream, `${values.map(show).join(" ")}\n`);
  const [out, err] = [printer(1), printer(2)];
  globalThis.console = { log: out, info: out, debug: out, warn: err, error: err };
  globalThis.exit = (code = 0) => exit(code);
  return show;
})();
