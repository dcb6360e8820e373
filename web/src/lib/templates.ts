// Prompt templates on the page: finding one by what was typed after "/", and its variables.
import type { Template, Variable } from "./api/types.ts";

export const SYSTEM_VARIABLES = [
  "CURRENT_DATE", "CURRENT_TIME", "CURRENT_DATETIME", "CURRENT_WEEKDAY", "CURRENT_TIMEZONE", "USER_NAME", "USER_EMAIL", "USER_LANGUAGE", "CLIPBOARD",
] as const;

/// The command being typed: "/" at the beginning and no space yet. null where it is ordinary text.
export function commandOf(text: string): string | null {
  const match = /^\/([\p{L}\p{N}_-]*)$/u.exec(text);
  return match ? match[1]!.toLowerCase() : null;
}

/// Those whose command begins with it, then those whose command or title contains it.
export function matching(templates: readonly Template[], typed: string): Template[] {
  const rank = (template: Template): number => {
    const command = template.command.toLowerCase();
    if (command === typed) return 0;
    if (command.startsWith(typed)) return 1;
    return command.includes(typed) || template.title.toLowerCase().includes(typed) ? 2 : 3;
  };
  return templates.map((template) => ({ template, rank: rank(template) })).filter((one) => one.rank < 3)
    .sort((a, b) => a.rank - b.rank || a.template.command.localeCompare(b.template.command)).map((one) => one.template);
}

/// Names of the variables in a text, in order, system variables left out.
export function namesIn(text: string): string[] {
  const names = [...text.matchAll(/\{\{\s*([\p{L}\p{N}_-]+)\s*\}\}/gu)].map((match) => match[1]!);
  return [...new Set(names)].filter((name) => !(SYSTEM_VARIABLES as readonly string[]).includes(name));
}

export const usesClipboard = (text: string): boolean => /\{\{\s*CLIPBOARD\s*\}\}/.test(text);

/// Keeps the description of variables that the text still uses and adds plain ones for the new.
export function describe(text: string, known: readonly Variable[]): Variable[] {
  return namesIn(text).map((name) => known.find((variable) => variable.name === name)
    ?? { name, label: name, type: "text", default: "", required: true, options: [] });
}
