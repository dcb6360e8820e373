/// Copies text, also over plain http, where navigator.clipboard does not exist.
export async function copyText(text: string): Promise<boolean> {
  try {
    if (navigator.clipboard && isSecureContext) {
      await navigator.clipboard.writeText(text);
      return true;
    }
  } catch { /* refused: the old way may still work */ }
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "visually-hidden";
  area.setAttribute("aria-hidden", "true");
  const back = document.activeElement as HTMLElement | null;
  const host = document.querySelector("dialog[open]") ?? document.body;
  host.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } finally {
    area.remove();
    back?.focus?.();
  }
}
