// Words and numbers in the reader's language. All words are in words.json.

const dictionary = await (await fetch("/static/words.json")).json();

export const languages = Object.keys(dictionary);

const kept = localStorage.getItem("language");
export let language = languages.includes(kept) ? kept : document.documentElement.lang;
document.documentElement.lang = language;

/** Use another language from now on; whoever shows words must show them again. */
export function speak(chosen) {
  language = document.documentElement.lang = chosen;
  localStorage.setItem("language", chosen);
}

/** The words of a key, with {name} replaced. */
export function t(key, values = {}) {
  const words = dictionary[language][key] ?? key;
  return words.replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
}

/** What the console says in English, in the words of its `code` where there are any. */
export function inWords(text, code, values = {}) {
  return code in dictionary[language] ? t(code, { text, ...values }) : text;
}

/** A kind of result in words; one of a newer worker by its own name. */
export function kindName(kind) {
  return dictionary[language][`kind.${kind ?? "good"}`] ?? kind;
}

export function number(value, digits = 0) {
  if (value === null || value === undefined) return "–";
  return value.toLocaleString(language, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** The score in thresholds, such as 1.8 ×. */
export function ratio(value) {
  return value === null ? "–" : `${number(value, value < 10 ? 2 : 0)}\u00a0×`;
}

/** A duration in milliseconds with a unit that suits it. */
export function duration(ms) {
  if (ms === null || ms === undefined) return "–";
  return ms < 1000 ? `${number(ms)} ms` : ms < 120_000 ? `${number(ms / 1000, 1)} s` : ago(ms / 1000);
}

/** Seconds as the largest unit that fits. */
export function ago(seconds) {
  const [unit, size] = [["day", 86_400], ["hour", 3600], ["minute", 60], ["second", 1]].find(([, one]) => seconds >= one) ?? ["second", 1];
  const shown = Math.max(0, Math.floor(seconds / size));
  return shown.toLocaleString(language, { style: "unit", unit, unitDisplay: "short" });
}

/** A time of day; with its date where that is another day. */
export function clock(seconds) {
  const time = new Date(seconds * 1000);
  const today = time.toDateString() === new Date().toDateString();
  const day = today ? {} : { day: "2-digit", month: "2-digit" };
  return time.toLocaleString(language, { ...day, hourCycle: "h23", hour: "2-digit", minute: "2-digit", second: "2-digit" });
}
