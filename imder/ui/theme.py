"""Colours and type of the page: system fonts, calm surfaces, text that passes WCAG AA in light and dark."""

from __future__ import annotations

import gradio as gr
from gradio.themes.utils import colors, sizes

_SANS = ("system-ui", "-apple-system", "Segoe UI", "Roboto", "Noto Sans", "Helvetica Neue", "Arial", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace")


def theme() -> gr.themes.Base:
    """The theme handed to `launch`."""
    base = gr.themes.Base(
        primary_hue=colors.sky,
        secondary_hue=colors.sky,
        neutral_hue=colors.slate,
        text_size=sizes.text_md,
        radius_size=sizes.radius_md,
        spacing_size=sizes.spacing_md,
        font=_SANS,
        font_mono=_MONO,
    )
    return base.set(
        body_background_fill="*neutral_100",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_800",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="*neutral_900",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_700",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_shadow="none",
        block_label_text_color="*neutral_700",
        block_label_text_color_dark="*neutral_200",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_100",
        block_title_text_weight="600",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        input_background_fill="white",
        input_background_fill_dark="*neutral_800",
        input_border_color="*neutral_400",
        input_border_color_dark="*neutral_500",
        input_border_width="1px",
        input_placeholder_color="*neutral_600",
        input_placeholder_color_dark="*neutral_300",
        checkbox_border_color="*neutral_500",
        checkbox_border_color_dark="*neutral_400",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_border_color_selected="*primary_700",
        checkbox_border_color_selected_dark="*primary_400",
        checkbox_label_background_fill="*neutral_50",
        checkbox_label_background_fill_dark="*neutral_800",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*neutral_700",
        checkbox_label_border_color="*neutral_400",
        checkbox_label_border_color_dark="*neutral_500",
        checkbox_label_border_color_selected="*primary_700",
        checkbox_label_border_color_selected_dark="*primary_400",
        checkbox_label_border_width="1px",
        checkbox_label_text_color="*neutral_800",
        checkbox_label_text_color_dark="*neutral_100",
        checkbox_label_text_color_selected="*primary_900",
        checkbox_label_text_color_selected_dark="white",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_700",
        button_primary_background_fill_hover_dark="*primary_800",
        button_primary_text_color="white",
        button_primary_text_color_dark="white",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_800",
        button_secondary_background_fill_hover_dark="*neutral_700",
        button_secondary_border_color="*neutral_400",
        button_secondary_border_color_dark="*neutral_500",
        button_secondary_text_color="*neutral_800",
        button_secondary_text_color_dark="*neutral_100",
        button_border_width="1px",
        button_large_text_weight="600",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        link_text_color="*primary_800",
        link_text_color_dark="*primary_300",
        color_accent="*primary_700",
        color_accent_soft="*primary_50",
        color_accent_soft_dark="*neutral_800",
    )


CSS = """
.gradio-container {
  width: 100%; max-width: 1560px !important; margin: 0 auto !important; padding: 16px 24px 32px !important;
}
.gradio-container .main.fillable.app { padding: 0 !important; }
.gradio-container main.contain > .column { gap: 12px; }
#head .html-container, #source .html-container, .status-line .html-container, #stage-holder .html-container,
.report .html-container { padding: 0; }
#head { overflow: visible !important; }
#source p { margin: 0; font-size: .875rem; line-height: 1.45; color: var(--body-text-color-subdued); max-width: 160ch; }
#source b { color: inherit; font-weight: 600; }
#source .notice { color: var(--body-text-color); font-weight: 600; }
#work { gap: 16px; align-items: flex-start; flex-wrap: nowrap; }
#controls {
  flex: 0 0 312px !important; min-width: 0 !important; gap: 12px; padding: 14px; border-radius: 10px;
  background: var(--background-fill-primary); border: 1px solid var(--border-color-primary);
}
#stage-head { position: absolute; width: 1px; height: 1px; overflow: hidden !important; clip-path: inset(50%); }
#stage-column { flex: 1 1 0 !important; min-width: 0 !important; }
#controls .block, #controls .form { background: transparent; border: 0 !important; padding: 0; box-shadow: none; }
#controls .form { gap: 12px; overflow: visible; }
#draws, #guidance { overflow: visible !important; }
#controls #sample, #controls #sampler, #controls #model, #controls #data { overflow: visible !important; }
#controls .wrap:has(> .wrap-inner) { border-color: var(--input-border-color); }
#controls .wrap-inner input { padding-right: 30px; text-overflow: ellipsis; }
#controls button:not([class*="reset"]) { min-height: 40px; }
#controls .gr-accordion { overflow: visible !important; border-top: 1px solid var(--border-color-primary) !important; }
#controls .gr-accordion > .label-wrap { align-items: center; padding-top: 6px; font-weight: 600; }
#controls .gr-accordion > .label-wrap.open { margin-bottom: 4px; }
#controls .gr-accordion .icon { font-size: .75rem; }
#controls .examples { gap: 8px; }
#controls .examples button {
  font-weight: 500; font-size: .875rem; padding: 6px 8px; white-space: normal; line-height: 1.25;
}
#drop .wrap { gap: 6px; flex-wrap: nowrap; }
#drop label { min-height: 40px; flex: 1 1 auto; justify-content: center; padding: 6px 4px; }
#drop label > span { margin-left: 6px; }
.status-line p {
  margin: 0; padding: 9px 11px; font-size: .9rem; line-height: 1.4; overflow-wrap: anywhere; border-radius: 4px;
  border-left: 3px solid var(--border-color-primary); background: var(--background-fill-secondary);
}
.status-line [data-testid="status-tracker"] .error { display: none; }
.status-line p.good { border-left-color: var(--color-accent); }
.status-line p.trouble { border-left-color: #b91c1c; font-weight: 600; }
.dark .status-line p { background: var(--input-background-fill); }
.dark .status-line p.trouble { border-left-color: #fca5a5; }
#measured { background: var(--background-fill-primary);
  border: 1px solid var(--border-color-primary) !important; }
#measured .prose { max-width: 92ch; }
#pages { max-width: 100%; min-width: 0; gap: 0; }
#pages > .tabitem, #pages .tabitem { padding: 12px 0 0; border: 0; background: transparent; }
/* Gradio hides in a menu what does not fit into the list: so the list is as wide as all tabs, its frame scrolls. */
#pages > .tab-wrapper { height: auto; overflow: auto hidden; scrollbar-width: thin; padding-bottom: 2px; }
#pages > .tab-wrapper > [role="tablist"] { min-width: 1060px; height: 42px; overflow: visible; }
#pages .tab-container button { min-height: 40px; }
.toured { outline: 3px solid var(--color-accent) !important; outline-offset: 4px; border-radius: 8px; }
.dark #pages button[aria-selected="true"] { color: var(--primary-300); }
#protocol, #against { max-width: 420px; width: 100%; margin: 0 !important; align-self: flex-start; }
#benchmark-copy, #training-copy, #live-copy { align-self: flex-start; width: auto; min-width: 180px; flex: 0 0 auto; }
.sheet { gap: 12px; padding: 14px; border-radius: 10px; background: var(--background-fill-primary);
  border: 1px solid var(--border-color-primary); min-width: 0 !important; }
.sheet .block, .sheet .form { background: transparent; border: 0 !important; padding: 0; box-shadow: none; }
.sheet .form { gap: 12px; overflow: visible; }
.sheet .block:has(.wrap-inner) { overflow: visible !important; }
.sheet label { min-height: 40px; }
.sheet button:not([class*="reset"]) { min-height: 40px; }
.figures { display: grid !important; grid-template-columns: repeat(auto-fit, minmax(min(100%, 460px), 1fr));
  gap: 16px; }
.figures > * { min-width: 0 !important; }
.report h3 { font-size: 1rem; margin: 0 0 6px; font-weight: 600; }
.report h2 { font-size: 1.15rem; margin: 0 0 6px; font-weight: 650; }
.report p { margin: 0 0 8px; max-width: 110ch; font-size: .9rem; line-height: 1.45; }
.report .box { overflow-x: auto; margin: 0 0 20px; max-width: 100%; }
.report .box:focus-visible, .report pre:focus-visible { outline: 2px solid var(--color-accent); outline-offset: 2px; }
.report table { border: 0 !important; border-collapse: collapse; margin: 0; font-size: .875rem;
  font-variant-numeric: tabular-nums; }
.report tr, .report thead, .report tbody { border: 0 !important; background: transparent !important; }
.report caption { text-align: left; padding-bottom: 6px; caption-side: top; }
.report caption strong { font-weight: 600; }
.report caption strong, .report caption span { display: block; white-space: normal; max-width: min(110ch, 80vw);
  position: sticky; left: 0; }
.report caption span { font-size: .8125rem; line-height: 1.4; color: var(--body-text-color-subdued); }
.report th, .report td { padding: 5px 10px; text-align: right; white-space: nowrap; font-weight: 400;
  border: 0; border-bottom: 1px solid var(--border-color-primary); color: var(--body-text-color); }
.report thead th { font-weight: 600; border-bottom-width: 2px; }
.report th[scope=row], .report thead th:first-child { text-align: left; position: sticky; left: 0;
  background: var(--background-fill-primary); }
.report tr.average > * { font-style: italic; }
.report tr.first > * { border-top: 2px solid var(--border-color-primary); }
.report td strong { font-weight: 700; }
.report.facts th, .report.facts td { text-align: left; white-space: normal; vertical-align: top;
  overflow-wrap: anywhere; }
.report.facts td { min-width: 9.5rem; }
.report.facts th { min-width: 7rem; overflow-wrap: normal; }
.report.facts .prose { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr));
  gap: 0 20px; align-items: start; }
.report pre { overflow-x: auto; margin: 0 0 10px; padding: 10px 12px; font-size: .8125rem; border-radius: 4px;
  border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary); }
.report .idea { margin: 0 0 12px; padding-left: 1.3rem; max-width: 100ch; }
.report .idea li { margin: 0 0 7px; font-size: .9375rem; line-height: 1.5; }
.report ol.idea { list-style: decimal; }
.report ul.idea { list-style: disc; }
.scheme { margin: 8px 0 4px; max-width: 860px; }
.scheme .box { margin: 0; }
.scheme svg { width: 100%; height: auto; min-width: 600px; display: block; }
.scheme rect { fill: var(--background-fill-secondary); stroke: var(--body-text-color-subdued); stroke-width: 1.5; }
.scheme .gone rect { fill: none; stroke-dasharray: 5 4; }
.scheme path { fill: none; stroke: var(--body-text-color-subdued); stroke-width: 1.75; }
.scheme marker path { fill: var(--body-text-color-subdued); stroke: none; }
.scheme .line path, .scheme path.line { marker-end: url(#scheme-tip); }
.scheme .dashed { stroke-dasharray: 5 4; }
.scheme text { fill: var(--body-text-color); font-size: 16px; text-anchor: middle; }
.scheme .small { font-size: 12.5px; fill: var(--body-text-color-subdued); }
.scheme figcaption { font-size: .875rem; color: var(--body-text-color-subdued); }
#formulas .formula { display: grid; grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); gap: 8px 24px;
  padding: 14px 0; border-top: 1px solid var(--border-color-primary); }
#formulas h3 { margin: 0 0 4px; font-size: 1rem; font-weight: 650; }
#formulas p { margin: 0 0 6px; font-size: .9rem; line-height: 1.5; }
#formulas .source { font-size: .8125rem; color: var(--body-text-color-subdued); }
#formulas .katex-display { margin: .6em 0; padding: 2px 0; overflow: auto hidden; text-align: left; }
#formulas .katex-display > .katex { text-align: left; font-size: 1.08em; }
#formulas details { margin: 0 0 8px; }
#formulas summary { cursor: pointer; font-size: .8125rem; min-height: 28px; overflow-wrap: anywhere; }
#formulas pre { margin: 2px 0 8px; padding: 10px 12px; border-radius: 6px; white-space: pre-wrap;
  overflow-wrap: anywhere; border: 1px solid var(--border-color-primary); background: var(--background-fill-secondary);
  font-size: .8125rem; line-height: 1.45; }
#formulas code { background: transparent; border: 0; padding: 0; color: inherit; font-size: inherit;
  white-space: pre-wrap; overflow-wrap: anywhere; }
@media (max-width: 860px) { #formulas .formula { grid-template-columns: minmax(0, 1fr); } }
#page-field .field-controls { align-items: flex-start; gap: 12px; }
#page-field #field-learned, #page-field #field-toy { gap: 12px; }
#page-field #flow-learned .html-container, #page-field #flow-toy .html-container,
#page-field .status-line .html-container { padding: 0; }
#field-about { border-top: 1px solid var(--border-color-primary) !important; }
#field-about > .label-wrap { align-items: center; min-height: 40px; font-weight: 600; }
#field-about .icon { font-size: .75rem; }
#field-about .prose { max-width: 92ch; }
#hear { margin-top: 4px; }
#hear ol { list-style: none; margin: 0; padding: 0; display: grid; gap: 14px 20px;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 290px), 1fr)); }
#hear li { margin: 0; display: grid; grid-template-rows: auto 1fr auto; align-content: start; }
#hear li h3 { font-size: 1rem; margin: 0 0 2px; }
#hear audio { width: 100%; max-width: 360px; height: 44px; }
.dark #hear audio { color-scheme: dark; }
#say-holder .html-container { padding: 0; }
#say-stored { max-width: 620px; width: 100%; }
@media (min-width: 861px) and (min-height: 720px) {
  #controls { position: sticky; top: 12px; }
}
@media (max-width: 860px) {
  .gradio-container { padding: 12px 10px 24px !important; }
  #work { flex-direction: column; align-items: stretch; }
  #controls, #stage-column { flex: 1 1 auto !important; width: 100%; }
  .gradio-container footer { display: none; }
}
@media (prefers-reduced-motion: reduce) {
  .gradio-container * { transition: none !important; animation: none !important; }
}
"""
