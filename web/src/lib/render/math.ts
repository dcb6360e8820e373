// Mathematics in Markdown: $…$, $$…$$, \(…\) and \[…\]. The parser leaves placeholders with the source as text; typeset() turns
// them into KaTeX's DOM once KaTeX is loaded, so a page without formulas never fetches it and a formula that fails stays readable.
import type { MarkdownIt } from "markdown-it";

const MAX_TEX = 10_000;

type Katex = typeof import("katex").default;
let katex: Promise<Katex> | undefined;

function load(): Promise<Katex> {
  katex ??= Promise.all([import("katex"), import("katex/dist/katex.min.css")]).then(([module]) => module.default);
  return katex;
}

export function mathPlugin(md: MarkdownIt): void {
  md.inline.ruler.before("escape", "math", (state, silent) => {
    const found = inlineMath(state.src, state.pos, state.posMax);
    if (!found) return false;
    if (!silent) {
      const token = state.push("math", "span", 0);
      token.content = found.tex;
      token.meta = { display: found.display };
    }
    state.pos = found.end;
    return true;
  });
  md.block.ruler.before("fence", "math_block", (state, startLine, endLine, silent) => {
    const start = state.bMarks[startLine]! + state.tShift[startLine]!;
    const first = state.src.slice(start, state.eMarks[startLine]!);
    const open = first.startsWith("$$") ? "$$" : first.startsWith("\\[") ? "\\[" : "";
    if (!open || state.sCount[startLine]! - state.blkIndent >= 4) return false;
    const close = open === "$$" ? "$$" : "\\]";
    const lines: string[] = [];
    let line = startLine;
    let rest = first.slice(2);
    for (;;) {
      const at = rest.trimEnd().lastIndexOf(close);
      if (at >= 0) {
        if (rest.slice(at + 2).trim() !== "") return false;
        lines.push(rest.slice(0, at));
        break;
      }
      if (line === startLine && rest.includes(close)) return false;
      lines.push(rest);
      line += 1;
      // An open formula at the end of a streamed text is shown as one, not as a paragraph of backslashes.
      if (line >= endLine) break;
      rest = state.src.slice(state.bMarks[line]! + state.tShift[line]!, state.eMarks[line]!);
    }
    if (silent) return true;
    const token = state.push("math_block", "div", 0);
    token.block = true;
    token.content = lines.join("\n").trim();
    token.map = [startLine, Math.min(line + 1, endLine)];
    state.line = Math.min(line + 1, endLine);
    return true;
  }, { alt: ["paragraph", "reference", "blockquote", "list"] });
  md.renderer.rules.math = (tokens, i) => placeholder(md, "span", tokens[i]!.content, (tokens[i]!.meta as { display: boolean }).display);
  md.renderer.rules.math_block = (tokens, i) => `${placeholder(md, "div", tokens[i]!.content, true)}\n`;
}

function placeholder(md: MarkdownIt, tag: string, tex: string, display: boolean): string {
  return `<${tag} class="math${display ? " math-display" : ""}">${md.utils.escapeHtml(tex)}</${tag}>`;
}

interface Inline { tex: string; display: boolean; end: number }

/// Pandoc's rule for dollars, so that "costs $5 and $10" stays text: no space inside the signs, no digit after the closing one.
export function inlineMath(src: string, pos: number, max: number): Inline | null {
  const two = src.slice(pos, pos + 2);
  if (two === "\\(" || two === "\\[") {
    const close = src.indexOf(two === "\\(" ? "\\)" : "\\]", pos + 2);
    if (close < 0 || close + 2 > max) return null;
    return { tex: src.slice(pos + 2, close).trim(), display: two === "\\[", end: close + 2 };
  }
  if (src[pos] !== "$") return null;
  if (two === "$$") {
    const close = src.indexOf("$$", pos + 2);
    if (close < 0 || close + 2 > max || close === pos + 2) return null;
    return { tex: src.slice(pos + 2, close).trim(), display: true, end: close + 2 };
  }
  if (/\s/.test(src[pos + 1] ?? " ") || (pos > 0 && /[\w$]/.test(src[pos - 1]!))) return null;
  for (let i = pos + 1; i < max; i++) {
    const c = src[i];
    if (c === "\n" && src[i + 1] === "\n") return null;
    if (c === "\\") { i += 1; continue; }
    if (c !== "$") continue;
    if (/\s/.test(src[i - 1]!) || /\d/.test(src[i + 1] ?? "")) return null;
    return { tex: src.slice(pos + 1, i), display: false, end: i + 1 };
  }
  return null;
}

interface KatexNode { attributes?: Record<string, string>; children?: KatexNode[]; toNode(): Node }
type Internals = Katex & { __renderToDomTree(tex: string, options: object): KatexNode };

/// KaTeX writes some sizes as style attributes, which the policy forbids: they go through the CSSOM instead.
function parkStyles(node: KatexNode): void {
  const style = node.attributes?.style;
  if (style !== undefined) {
    delete node.attributes!.style;
    node.attributes!["data-css"] = style;
  }
  node.children?.forEach(parkStyles);
}

/// Typesets every formula below `root`. Resolves when done; never throws.
export async function typeset(root: ParentNode): Promise<void> {
  const places = [...root.querySelectorAll<HTMLElement>(".math:not([data-done])")];
  if (places.length === 0) return;
  let library: Internals;
  try {
    library = (await load()) as Internals;
  } catch {
    return;
  }
  for (const place of places) {
    const tex = place.textContent ?? "";
    if (tex.length > MAX_TEX || place.dataset.done) continue;
    place.dataset.done = "1";
    try {
      const tree = library.__renderToDomTree(tex, {
        displayMode: place.classList.contains("math-display"), throwOnError: true, trust: false, strict: "ignore", maxSize: 20, maxExpand: 500,
      });
      parkStyles(tree);
      const node = tree.toNode() as HTMLElement;
      for (const styled of node.querySelectorAll<HTMLElement>("[data-css]")) {
        styled.style.cssText = styled.dataset.css ?? "";
        styled.removeAttribute("data-css");
      }
      place.title = "";
      place.replaceChildren(node);
      if (place.classList.contains("math-display")) place.tabIndex = 0;
    } catch (error) {
      place.classList.add("math-error");
      place.title = error instanceof Error ? error.message : String(error);
    }
  }
}
