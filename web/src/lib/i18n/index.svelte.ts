// The page's words. English is the list of keys; every other language must have the same (the compiler and a test see to it).
import { en, type Key } from "./en.ts";
import { zh } from "./zh.ts";

export type { Key };
export type Language = "en" | "zh-CN";
export const LANGUAGES: { id: Language; name: string }[] = [{ id: "en", name: "English" }, { id: "zh-CN", name: "简体中文" }];
const WORDS: Record<Language, Record<Key, string>> = { en, "zh-CN": zh };

class Locale {
  language = $state<Language>(preferred());

  set(language: Language): void {
    this.language = language;
    document.documentElement.lang = language;
    try { localStorage.setItem("pagemill.language", language); } catch { /* private mode: the account still remembers it */ }
  }
}

function preferred(): Language {
  let stored: string | null = null;
  try { stored = globalThis.localStorage?.getItem("pagemill.language") ?? null; } catch { /* no storage */ }
  if (stored === "en" || stored === "zh-CN") return stored;
  const wanted = globalThis.navigator?.languages ?? [];
  for (const tag of wanted) {
    if (/^zh\b/i.test(tag)) return "zh-CN";
    if (/^en\b/i.test(tag)) return "en";
  }
  return "en";
}

export const locale = new Locale();

/// The words for a key, with {name} replaced. "one|many" is chosen by `n`.
export function t(key: Key, values: Record<string, string | number> = {}): string {
  return format(WORDS[locale.language][key], values, locale.language);
}

export function format(text: string, values: Record<string, string | number>, language: Language): string {
  const forms = text.split("||");
  const n = values.n;
  const chosen = forms.length > 1 && typeof n === "number" && new Intl.PluralRules(language).select(n) !== "one" ? forms[1]! : forms[0]!;
  return chosen.replace(/\{(\w+)\}/g, (whole, name: string) => {
    const value = values[name];
    return value === undefined ? whole : typeof value === "number" ? new Intl.NumberFormat(language).format(value) : value;
  });
}

export function number(value: number, digits = 0): string {
  return new Intl.NumberFormat(locale.language, { maximumFractionDigits: digits, minimumFractionDigits: digits }).format(value);
}

export function bytes(value: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = value < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(value) / 3));
  const scaled = value / 1000 ** power;
  return `${number(scaled, power > 0 && scaled < 100 ? 1 : 0)} ${units[power]}`;
}

export function dateTime(ms: number): string {
  return new Intl.DateTimeFormat(locale.language, { dateStyle: "medium", timeStyle: "short" }).format(ms);
}

export function clock(ms: number): string {
  return new Intl.DateTimeFormat(locale.language, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).format(ms);
}

export function relative(ms: number, now = Date.now()): string {
  const seconds = (ms - now) / 1000;
  const steps: [Intl.RelativeTimeFormatUnit, number][] = [["year", 31_536_000], ["month", 2_592_000], ["day", 86_400], ["hour", 3600], ["minute", 60]];
  const formatter = new Intl.RelativeTimeFormat(locale.language, { numeric: "auto" });
  for (const [unit, length] of steps) {
    if (Math.abs(seconds) >= length) return formatter.format(Math.trunc(seconds / length), unit);
  }
  return formatter.format(Math.trunc(seconds), "second");
}
