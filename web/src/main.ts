import { mount } from "svelte";
import App from "./App.svelte";
import { locale } from "./lib/i18n/index.svelte.ts";
import { router } from "./lib/state/router.svelte.ts";
import { session } from "./lib/state/session.svelte.ts";
import "./styles/tokens.css";
import "./styles/base.css";
import "./styles/markdown.css";

locale.set(locale.language);
router.start();
void session.load().catch(() => {});
mount(App, { target: document.getElementById("app")! });
