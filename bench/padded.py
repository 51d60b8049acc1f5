"""A learner as one would write it first: the same model, padded, in eager PyTorch, every table an nn.Embedding.

B sequences padded to n tokens, L = B n places, P targets, V items, K negatives, D width, H heads. It starts with the
weights of a Learner, so its first loss must equal that learner's. The differences:

    attention       [B, H, n, n] scores, bias tables looked up for every pair of places, padding computed and masked
    optimizer       torch's fused AdamW over all parameters, item table included: every row, every step
    evaluation      all P x V scores against freshly normalised rows, compared under a [P, V] mask of candidates
    metrics         HR@10 and NDCG@10 of the model alone; no baselines, no age slices, no ranking figures
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize, silu

from model.config import ModelSettings
from model.data.labels import Targets, accidental_hits
from model.data.micro_batch import PackedBatch
from model.learning.learner import Learner
from model.learning.negatives import Negatives

EPS = 1e-6


class Padded(nn.Module):
    """The model, for micro-batches of items with actions only, as in a stream of ratings."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.settings: ModelSettings = learner.model
        state = {name: value.detach().clone() for name, value in learner.weights.recommender.named_parameters()}
        self.names = {name: name.replace(".", "_") for name in state}
        for name, value in state.items():
            self.register_parameter(self.names[name], nn.Parameter(value))
        self.items = nn.Embedding.from_pretrained(learner.weights.items.rows.clone(), freeze=False)
        self.features = nn.Embedding.from_pretrained(learner.weights.features.rows.clone(), freeze=False)

    def weight(self, name: str) -> Tensor:
        """Return a parameter by its name in the recommender."""
        return getattr(self, self.names[name])

    def forward(
        self, item_Bn: Tensor, action_Bn: Tensor, kind_Bn: Tensor, ts_ms_Bn: Tensor, length_B: Tensor
    ) -> Tensor:
        """Return the encoder's output, [B, n, D]."""
        n = item_Bn.shape[1]
        at_n = torch.arange(n)
        x = self.items(item_Bn) + self.features(action_Bn) + self.weight("kind_emb")[kind_Bn]
        x = x * math.sqrt(self.settings.dim) + self.weight("pos_emb")[at_n]
        asked_Bn = torch.cat((ts_ms_Bn[:, 1:], ts_ms_Bn[:, -1:]), 1)
        asked_Bn = torch.where(at_n == length_B[:, None] - 1, ts_ms_Bn, asked_Bn)
        gap_Bnn = (asked_Bn[:, :, None] - ts_ms_Bn[:, None, :]).abs() / 1000
        bucket_Bnn = (gap_Bnn.clamp(min=1).log() / 0.301).long().clamp(max=128)
        step_nn = at_n - at_n[:, None] + self.settings.max_len - 1
        seen_Bnn = (at_n <= at_n[:, None]) & (at_n < length_B[:, None, None])
        for layer in range(self.settings.layers):
            x = self._layer(x, layer, bucket_Bnn, step_nn, seen_Bnn)
        return x

    def _layer(self, x_BnD: Tensor, layer: int, bucket_Bnn: Tensor, step_nn: Tensor, seen_Bnn: Tensor) -> Tensor:
        def weight(name: str) -> Tensor:
            return self.weight(f"encoder.layers.{layer}.{name}")

        B, n, _ = x_BnD.shape
        mixed = silu(layer_norm(x_BnD, x_BnD.shape[-1:], eps=EPS) @ weight("w_uvqk"))
        u, v, q, k = (part.view(B, n, self.settings.heads, -1).transpose(1, 2) for part in mixed.chunk(4, -1))
        scores_BHnn = q @ k.mT
        if self.settings.bias != "none":
            bias_Bnn = weight("bias.times")[bucket_Bnn] + weight("bias.positions")[step_nn]
            scores_BHnn = scores_BHnn + bias_Bnn[:, None]
        weights_BHnn = silu(scores_BHnn) / self.settings.max_len * seen_Bnn[:, None]
        o, u = ((part.transpose(1, 2).reshape(B, n, -1)) for part in (weights_BHnn @ v, u))
        return (u * layer_norm(o, o.shape[-1:], eps=EPS)) @ weight("w_out").T + weight("b_out") + x_BnD


class PaddedLearner:
    """Test, then train, with one forward pass for both."""

    def __init__(self, learner: Learner) -> None:
        self.model = Padded(learner)
        lr = learner.train.learning_rate
        self.adam = torch.optim.AdamW(self.model.parameters(), lr=lr, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.temperature = learner.model.temperature
        self.hits = self.ndcg = 0.0

    def step(
        self, batch: PackedBatch, targets: Targets, negatives: Negatives, item_L: Tensor, action_L: Tensor
    ) -> float:
        """Train one step on a micro-batch; return its loss."""
        lengths = torch.from_numpy(batch.offsets).diff()
        columns = (item_L, action_L, torch.from_numpy(batch.kinds).long(), torch.from_numpy(batch.ts_ms))
        padded = [nn.utils.rnn.pad_sequence(list(column.split(lengths.tolist())), True) for column in columns]
        y_BnD = self.model(*padded, lengths)
        query_P = torch.from_numpy(batch.queries[targets.positive])
        owner_P = torch.from_numpy(batch.owners[targets.positive])
        inside_P = query_P - torch.from_numpy(batch.offsets)[owner_P]
        found_PD = torch.where(
            (query_P < 0)[:, None], self.model.weight("start"), y_BnD[owner_P, inside_P.clamp(min=0)]
        )
        q_PD = normalize(found_PD, dim=-1, eps=EPS)
        positive_P = item_L[torch.from_numpy(batch.positions[targets.positive])]
        self._test(q_PD.detach(), positive_P)
        loss = self._loss(q_PD, positive_P, batch.requests[targets.positive], negatives)
        self.adam.zero_grad()
        loss.backward()
        self.adam.step()
        return loss.item()

    @torch.no_grad()
    def _test(self, q_PD: Tensor, positive_P: Tensor) -> None:
        scores_PV = q_PD @ normalize(self.model.items.weight, dim=-1, eps=EPS).T
        candidate_PV = torch.ones_like(scores_PV, dtype=torch.bool)  # all items are live here
        own_P1 = scores_PV.gather(1, positive_P[:, None])
        rank_P = 1 + ((scores_PV > own_P1) & candidate_PV).sum(1)
        self.hits += (rank_P <= 10).sum().item()
        self.ndcg += ((rank_P <= 10) / torch.log2(1 + rank_P)).sum().item()

    def _loss(self, q_PD: Tensor, positive_P: Tensor, requests_P, negatives: Negatives) -> Tensor:
        drawn_K = torch.from_numpy(negatives.rows)
        hits = accidental_hits(positive_P.numpy(), requests_P, negatives.rows)
        log_q_K = torch.from_numpy(negatives.log_q(negatives.rows)).float()
        own_P = (q_PD * normalize(self.model.items(positive_P), dim=-1, eps=EPS)).sum(-1) / self.temperature
        other_PK = q_PD @ normalize(self.model.items(drawn_K), dim=-1, eps=EPS).T / self.temperature - log_q_K
        other_PK[hits] = -torch.inf
        scores = torch.cat((own_P[:, None], other_PK), 1)
        return (torch.logsumexp(scores, 1) - own_P).mean()
