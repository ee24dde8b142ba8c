"""A peer of convert.py, run by the Python of the peer's own environment. Prints one line of JSON.

quantize IN OUT FTYPE THREADS     llama.cpp's own quantizer
mlx-lm | transformers FOLDER PROMPTS N THREADS
    PROMPTS: JSON, a list of lists of ids. {"greedy": [[[id, margin]...] for each prompt], "ids": [its text's ids, as the folder's
    tokenizer has them]}. Weights are computed with in float32, so that what differs is the file and not the arithmetic.
"""

import json
import sys


def quantize(source, target, ftype, threads):
    import llama_cpp as lib

    params = lib.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.allow_requantize = int(ftype), int(threads), True
    if lib.llama_model_quantize(source.encode(), target.encode(), params) != 0:
        raise SystemExit("llama_model_quantize failed")
    return {}


def margin(row):
    import numpy as np

    best = np.argsort(-row, kind="stable")[:2]
    return [int(best[0]), float(row[best[0]] - row[best[1]])]


def again(tokenizer, ids):
    """The ids of the text that ids stand for."""
    return list(tokenizer.encode(tokenizer.decode(ids, skip_special_tokens=True)))


def mlx(folder, prompts, n, threads):
    import mlx.core as mx
    import numpy as np
    from mlx.utils import tree_map
    from mlx_lm import load

    model, tokenizer = load(folder)
    wide = tree_map(lambda x: x.astype(mx.float32) if mx.issubdtype(x.dtype, mx.floating) else x, model.parameters())
    model.update(wide)
    greedy = []
    for ids in prompts:
        steps, all_ids = [], list(ids)
        for _ in range(int(n)):
            row = np.array(model(mx.array([all_ids]))[0, -1].astype(mx.float32))
            steps.append(margin(row))
            all_ids.append(steps[-1][0])
        greedy.append(steps)
    return {"greedy": greedy, "ids": [again(tokenizer, ids) for ids in prompts]}


def transformers(folder, prompts, n, threads):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.set_num_threads(int(threads))
    model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    greedy = []
    with torch.no_grad():
        for ids in prompts:
            steps, past, feed = [], None, torch.tensor([ids])
            for _ in range(int(n)):
                out = model(input_ids=feed, past_key_values=past, use_cache=True)
                past = out.past_key_values
                steps.append(margin(out.logits[0, -1].float().numpy()))
                feed = torch.tensor([[steps[-1][0]]])
            greedy.append(steps)
    return {"greedy": greedy, "ids": [again(tokenizer, ids) for ids in prompts]}


def main():
    what, rest = sys.argv[1], sys.argv[2:]
    if what == "quantize":
        answer = quantize(*rest)
    else:
        folder, prompts, n, threads = rest
        answer = {"mlx-lm": mlx, "transformers": transformers}[what](folder, json.loads(prompts), n, threads)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
