// Mermaid, only when a diagram is there. It runs in a frame without an origin, without network and with its own policy; what comes
// back is shown as an image, in which nothing can run. The channel is a MessagePort: the page itself listens to no window message.
import { ROOT } from "../api/client.ts";
import { t } from "../i18n/index.svelte.ts";

const MAX_SOURCE = 20_000;
const TIMEOUT_MS = 20_000;

interface Reply { id: number; svg?: string; error?: string }

let port: Promise<MessagePort> | undefined;
let next = 1;
const waiting = new Map<number, (reply: Reply) => void>();

function open(): Promise<MessagePort> {
  port ??= new Promise((resolve, reject) => {
    const frame = document.createElement("iframe");
    frame.setAttribute("sandbox", "allow-scripts");
    frame.src = `${ROOT}/assets/mermaid-frame.html`;
    frame.className = "diagram-frame";
    frame.title = "Mermaid";
    frame.tabIndex = -1;
    frame.setAttribute("aria-hidden", "true");
    frame.onload = () => {
      const channel = new MessageChannel();
      channel.port1.onmessage = (event: MessageEvent<Reply | "ready">) => {
        if (event.data === "ready") {
          resolve(channel.port1);
          return;
        }
        waiting.get(event.data.id)?.(event.data);
        waiting.delete(event.data.id);
      };
      frame.contentWindow!.postMessage("port", "*", [channel.port2]);
    };
    setTimeout(() => reject(new Error("timeout")), TIMEOUT_MS);
    document.body.append(frame);
  });
  return port;
}

async function draw(source: string, dark: boolean): Promise<string> {
  const channel = await open();
  const id = next++;
  return await new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      waiting.delete(id);
      reject(new Error(t("diagram.timeout")));
    }, TIMEOUT_MS);
    waiting.set(id, (reply) => {
      clearTimeout(timer);
      if (reply.svg) resolve(reply.svg);
      else reject(new Error(reply.error ?? ""));
    });
    channel.postMessage({ id, source, dark });
  });
}

function isDark(): boolean {
  const theme = document.documentElement.dataset.theme;
  return theme === "dark" || (theme !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
}

/// Puts the drawing above the code of its box; the code stays reachable. A diagram that cannot be drawn stays code, with the reason.
export async function diagram(box: HTMLElement, source: string): Promise<void> {
  if (source.length > MAX_SOURCE || box.dataset.diagram) return;
  box.dataset.diagram = "1";
  try {
    const svg = await draw(source, isDark());
    const image = document.createElement("img");
    image.className = "diagram";
    image.alt = `${t("diagram.label")}: ${source.slice(0, 500)}`;
    image.onload = () => URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(new Blob([svg], { type: "image/svg+xml" }));
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    summary.textContent = t("diagram.source");
    details.append(summary, ...box.childNodes);
    box.classList.add("has-diagram");
    box.replaceChildren(image, details);
  } catch (error) {
    const note = document.createElement("p");
    note.className = "diagram-error";
    note.textContent = `${t("diagram.failed")} ${error instanceof Error ? error.message.split("\n")[0] : ""}`;
    box.append(note);
  }
}
