// What the Node clients share: check(name, function) runs one check and prints its TAP line for
// run.sh to number, finish() ends the program. A check that outlives its time fails by itself; one that
// fails also prints what the witness says (`witnessed`), which is for pages what they showed.
// The exit code is 1 until finish() has seen every check, so that a client which stops halfway
// counts as failed.
"use strict";

const TIME_LIMIT_MS = 120000; // against hanging, on a machine that does much else
let ran = 0;
let failed = 0;
let witness = async () => "";
process.exitCode = 1;

async function check(name, body) {
  ran += 1;
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not done after ${TIME_LIMIT_MS} ms`)), TIME_LIMIT_MS);
  });
  try {
    await Promise.race([body(), late]);
    console.log(`ok - ${name}`);
  } catch (error) {
    failed += 1;
    console.log(`not ok - ${name}`);
    const seen = await witness().catch((trouble) => `nobody saw it: ${trouble}`);
    console.log(`${error.stack || error}\n${seen}`.trimEnd().replace(/^/gm, "# "));
  } finally {
    clearTimeout(timer);
  }
}

// Has `by` asked, at each check that fails, for a text about it.
function witnessed(by) {
  witness = by;
}

function finish() {
  process.exit(ran > 0 && failed === 0 ? 0 : 1);
}

module.exports = { check, finish, witnessed };
