"""The page that explains: the idea in a picture, equations beside the code that runs them, what to be careful about."""

from __future__ import annotations

from functools import cache
from html import escape

import gradio as gr

from imder.report.method import FORMULAS, Code, Formula, code_of, preset_table, truth_table
from imder.report.page import prose_html, table_html

#: Functions of at most so many lines stand open.
SHORT = 12

IDEA = """
<h2>The idea in a minute</h2>
<ol class="idea">
<li><b>A clip speaks in three ways.</b> Its words, its sound and its face each become a sequence of numbers: 32 channels
over time.</li>
<li><b>One goes missing.</b> In its place stands pure noise, and nothing else: the model never sees what was there.</li>
<li><b>A network takes noise away.</b> It has learnt, from many clips to which noise was added on purpose, in which
direction the clean numbers lie, given what is still observed. Step by step the noise turns into a face, a voice or
words that go with the rest.</li>
<li><b>Other noise, another result.</b> What is observed does not fix what is missing. Each seed gives one possible
answer; where they agree the rest of the clip tells it, where they differ it does not.</li>
<li><b>Then the label is predicted</b>, a sentiment or a class of emotion, from observed and recovered together, and
compared with the true one.</li>
</ol>
"""
LIMITS = """
<h2>What to be careful about</h2>
<ul class="idea">
<li><b>The bundled clips are synthetic.</b> A grammar writes the sentences, a speech program speaks them, the face is a
list of numbers; how much the three share was chosen. No figure here is one on MOSI, MOSEI or CH-SIMS.</li>
<li><b>A recovery is a draw, not the truth.</b> What the observed modalities do not tell cannot be recovered, and a
recovery adds no information: at best the prediction is as good as that of a model trained for what is missing.</li>
<li><b>Squared error punishes draws.</b> A perfect draw that knows nothing of the truth has error 2 where the mean has
1. Compare draws with draws and means with means.</li>
<li><b>Faces and voices are drawings of numbers.</b> Seventeen action units, head and gaze; pitch, energy and twenty
cepstral coefficients. They show what the features say, not a person.</li>
<li><b>Predicting what someone feels</b> from words, voice and face is unreliable on real people, and recovered input
makes it no safer. This is an instrument to study a method; do not decide anything about a person with it.</li>
</ul>
"""
SOURCES = """
<h2>References and licence</h2>
<ul class="idea">
<li>Yuanzhi Wang, Yong Li, Zhen Cui: Incomplete Multimodality-Diffused Emotion Recognition. NeurIPS 2023.</li>
<li>Yang Song, Jascha Sohl-Dickstein, Diederik P. Kingma, Abhishek Kumar, Stefano Ermon, Ben Poole: Score-Based
Generative Modeling through Stochastic Differential Equations. ICLR 2021.</li>
<li>Tero Karras, Miika Aittala, Timo Aila, Samuli Laine: Elucidating the Design Space of Diffusion-Based Generative
Models. NeurIPS 2022.</li>
<li>Cheng Lu, Yuhao Zhou, Fan Bao, Jianfei Chen, Chongxuan Li, Jun Zhu: DPM-Solver++. 2022.</li>
<li>Jonathan Ho, Tim Salimans: Classifier-Free Diffusion Guidance. 2022.</li>
<li>Yao-Hung Hubert Tsai and others: Multimodal Transformer for Unaligned Multimodal Language Sequences. ACL 2019.</li>
<li>Jinming Zhao, Ruichen Li, Qin Jin: Missing Modality Imagination Network (MMIN). ACL 2021. Zheng Lian and others:
GCNet. IEEE TPAMI 2023.</li>
</ul>
<p>Code and models: MIT licence. The corpus card (<code>assets/corpus/README.md</code>) names the programs that made the
clips.</p>
"""
FORMULAS_HEAD = """
<h2>Equations beside the code that runs them</h2>
<p>The code is read from the running program, not copied: what is shown is what runs.</p>
"""
#: Signs in the picture: what is observed, what is missing, what is computed.
PICTURE = """
<figure class="scheme"><div class="box" role="region" tabindex="0" aria-label="The model as a picture">
<svg viewBox="0 0 860 300" role="img"
aria-label="Words and voice are observed and encoded. They condition a score
network that turns noise, in place of the missing face, into features. These are refined and, with the observed ones,
predict the label. The true face is only compared with the result.">
<defs><marker id="scheme-tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7"
orient="auto-start-reverse"><path d="M0 0L8 4L0 8z"/></marker></defs>
<g class="box"><rect x="8" y="16" width="120" height="48" rx="8"/><rect x="8" y="84" width="120" height="48" rx="8"/>
<rect x="196" y="16" width="84" height="48" rx="8"/><rect x="196" y="84" width="84" height="48" rx="8"/>
<rect x="366" y="150" width="150" height="64" rx="8"/><rect x="576" y="158" width="84" height="48" rx="8"/>
<rect x="576" y="40" width="84" height="68" rx="8"/></g>
<g class="gone"><rect x="8" y="158" width="120" height="48" rx="8"/>
<rect x="196" y="158" width="84" height="48" rx="8"/>
<rect x="366" y="244" width="294" height="44" rx="8"/></g>
<g class="line"><path d="M128 40H194"/><path d="M128 108H194"/><path d="M280 182H364"/><path d="M280 40H574"/>
<path d="M280 108H574" /><path d="M320 40V168H364" class="thin"/><path d="M332 108V160H364" class="thin"/>
<path d="M516 182H574"/><path d="M618 158V110"/><path d="M660 74H726"/>
<path d="M441 150C441 118 501 118 501 148" /></g>
<path class="line dashed" d="M68 206V266H364"/><path class="line dashed" d="M618 206V242"/>
<g class="name"><text x="68" y="46">words</text><text x="68" y="114">voice</text><text x="68" y="180">face</text>
<text x="68" y="197" class="small">missing</text><text x="238" y="46">E</text><text x="238" y="114">E</text>
<text x="238" y="188">noise</text><text x="441" y="178">score network</text>
<text x="441" y="198" class="small">from noise to data</text><text x="471" y="118" class="small">step by step</text>
<text x="618" y="188">D</text><text x="618" y="70">T</text><text x="618" y="92" class="small">transformer</text>
<text x="790" y="80">prediction</text><text x="513" y="271">compared, for you alone</text>
<text x="318" y="24" class="small">condition</text></g>
</svg></div>
<figcaption>Solid: what the model reads. Dashed: the truth, which it never does.</figcaption>
</figure>
"""


def explain_tab() -> None:
    """Adds the page to the tabs that are being built."""
    with gr.Tab("How it works", elem_id="page-how"), gr.Column(elem_id="how", elem_classes="sheet"):
        gr.HTML(IDEA + PICTURE, elem_classes="report")
        gr.HTML(FORMULAS_HEAD, elem_classes="report")
        gr.Markdown(formulas(), latex_delimiters=[{"left": "$$", "right": "$$", "display": True}], elem_id="formulas")
        gr.HTML(table_html(truth_table(), truth_table().title), elem_classes=["report", "facts"])
        gr.HTML(table_html(preset_table(), preset_table().title), elem_classes=["report", "facts"])
        gr.HTML(LIMITS + SOURCES, elem_classes="report")


@cache
def formulas() -> str:
    """Every formula with its code, as Markdown."""
    return "\n\n".join(_formula(i, one) for i, one in enumerate(FORMULAS, 1))


def _formula(number: int, one: Formula) -> str:
    code = "\n\n".join(_code(code_of(function)) for function in one.code)
    return f"""<section class="formula"><div class="said">

<h3>{number}. {escape(one.title)}</h3>
<p>{escape(one.text)}</p>

$${one.latex}$$

<p class="source">{prose_html(one.source)}</p>

</div><div class="code">

{code}

</div></section>"""


def _code(code: Code) -> str:
    # Markdown would end raw HTML at an empty line and read dollars as formulas.
    text = "\n".join(line or " " for line in escape(code.text, quote=False).replace("$", "&#36;").splitlines())
    shut = "" if text.count("\n") < SHORT else f" ({text.count(chr(10)) + 1} lines)"
    return (
        f"<details{'' if shut else ' open'}><summary><code>{escape(code.name)}</code> {escape(code.place)}{shut}"
        f"</summary><pre><code>{text}</code></pre></details>"
    )
