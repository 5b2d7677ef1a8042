/** Numbers and foreign texts as people read them. */

/**
 * Write a duration with its two largest units, like `2 h 5 min`.
 * @param {number|null|undefined} seconds
 */
export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  const whole = Math.max(0, Math.round(seconds));
  if (seconds > 0 && seconds < 10) return `${trimmed(seconds, 1)} s`;
  const units = /** @type {[number, string][]} */ ([
    [86400, "d"],
    [3600, "h"],
    [60, "min"],
    [1, "s"],
  ]);
  const first = units.findIndex(([size]) => whole >= size);
  if (first < 0) return "0 s";
  const [size, name] = units[first];
  const rest = first + 1 < units.length ? Math.floor((whole % size) / units[first + 1][0]) : 0;
  const lead = `${Math.floor(whole / size)} ${name}`;
  return rest ? `${lead} ${rest} ${units[first + 1][1]}` : lead;
}

/**
 * Write a number of bytes in binary units, like `15.9 GiB`.
 * @param {number} bytes
 */
export function size(bytes) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${trimmed(value, value < 100 && unit > 0 ? 1 : 0)} ${units[unit]}`;
}

/**
 * Write a number without zeros at its end.
 * @param {number} value
 * @param {number} digits
 */
export function trimmed(value, digits) {
  return String(Number(value.toFixed(digits)));
}

/**
 * Write a measured value with three digits, like a loss.
 * @param {number} value
 */
export function measured(value) {
  return String(Number(value.toPrecision(3)));
}

/**
 * Write a count with its noun, like `1 replica`.
 * @param {number} n
 * @param {string} noun
 */
export function count(n, noun) {
  return `${n} ${noun}${n === 1 ? "" : "s"}`;
}

/**
 * Write a moment in the time zone of the browser, with the name of that zone.
 * @param {number|null|undefined} seconds since 1970
 */
export function moment(seconds) {
  if (typeof seconds !== "number" || !Number.isFinite(seconds)) return "";
  const date = new Date(seconds * 1000);
  return Number.isNaN(date.getTime())
    ? ""
    : date.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "long" });
}

// CSI and OSC sequences, other escapes, then control characters but for tabs; and the characters
// that turn the direction of a text, by which a name can look like another one.
const CONTROL =
  /\u001b\[[0-?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(?:\u0007|\u001b\\)?|\u001b.|[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu;

/**
 * Return a text of a program as one that can be shown: without terminal sequences and characters
 * that change how others are read.
 * @param {unknown} text
 */
export function clean(text) {
  return text === null || text === undefined ? "" : String(text).replace(CONTROL, "");
}
