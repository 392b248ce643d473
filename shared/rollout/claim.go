package rollout

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"recompose/shared/rollout/fence"
)

// claim claims desktops. If another rollout holds some of them it claims none, and returns which. ok is false if records
// must be read first.
//
// A claim is void only if its rollout does not live and its head shows that it is over, or does not exist: the list of
// those that live may be lost, or older.
//
// A rollout that was over and begins a retry joins those that live, and then claims anew. Another one can claim the same
// desktops at that time, because the old claims seemed void. So it changes its records, even if it holds the desktops
// already, and the list of those that live is read after the claims: then one of the two puts conflicts. A plan made for
// the first time has no old claims: it leaves those that it wrote before it was interrupted.
func (s *step) claim(ids []string, anew bool) (heldBy string, ok bool) {
	ok = true
	parts := map[byte][]string{}
	for _, id := range ids {
		parts[fence.ClaimPart(id)] = append(parts[fence.ClaimPart(id)], fence.Fold(id))
	}
	records := map[byte]*Claims{}
	for part := range ClaimParts {
		if len(parts[byte(part)]) == 0 {
			continue
		}
		claims, there := record[Claims](s, ClaimKey(byte(part)))
		ok = ok && there
		records[byte(part)] = claims
	}
	if !ok {
		return "", false
	}
	live, ok := record[Live](s, LiveKey)
	if !ok {
		return "", false
	}
	holds := map[string]bool{s.name: true}
	for _, claims := range records {
		for _, by := range claims.Desktops {
			if _, known := holds[by]; !known {
				holds[by] = slices.Contains(live.Names, by) || s.unfinished(by)
			}
		}
	}
	if !s.ready() {
		return "", false
	}
	held := map[string][]string{}
	for part, claims := range records {
		for _, id := range parts[part] {
			if by := claims.Desktops[id]; by != "" && by != s.name && holds[by] {
				held[by] = append(held[by], id)
			}
		}
	}
	if len(held) > 0 {
		var texts []string
		for by, ids := range held {
			slices.Sort(ids)
			texts = append(texts, fmt.Sprintf("rollout %s holds %d of the desktops: %s", by, len(ids),
				strings.Join(ids[:min(len(ids), 5)], ", ")))
		}
		slices.Sort(texts)
		return strings.Join(texts, "; ") + "; wait for its end, or take them out of it with recompose rollout exclude", true
	}
	for part, claims := range records {
		kept := map[string]string{}
		for id, by := range claims.Desktops {
			if holds[by] {
				kept[id] = by
			}
		}
		for _, id := range parts[part] {
			kept[id] = s.name
		}
		if !anew && maps.Equal(kept, claims.Desktops) {
			continue
		}
		claims.Desktops, claims.At = kept, s.Now.UTC()
	}
	if !slices.Contains(live.Names, s.name) {
		live.Names = append(live.Names, s.name)
	}
	s.head.Claimed = s.Now.UTC()
	return "", true
}

// unfinished reports whether another rollout exists and is not over. A head that cannot be read shows no end.
func (s *step) unfinished(name string) bool {
	h, ok := peek[Head](s, HeadKey(name))
	return ok && s.in[HeadKey(name)] != nil && !h.over()
}

// stay puts a rollout that is not over back among those that live, if the list of them was lost or is older. Where the
// step may claim desktops, the list is read after the claims.
func (s *step) stay() {
	if s.head != nil && !s.head.over() && (s.ready() || !s.claims) {
		s.join()
	}
}
