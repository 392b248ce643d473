package check_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

// manifest decodes the documents of the manifest into the types of Kubernetes. A field that they do not have is an
// error.
func manifest(t *testing.T) (settings core.ConfigMap, workers apps.Deployment, budget policy.PodDisruptionBudget) {
	t.Helper()
	text, err := os.ReadFile("../kubernetes/recompose.yaml")
	require.NoError(t, err)
	documents := strings.Split(string(text), "\n---\n")
	require.Len(t, documents, 3)
	for i, into := range []any{&settings, &workers, &budget} {
		require.NoError(t, yaml.UnmarshalStrict([]byte(documents[i]), into))
	}
	require.Equal(t, "v1 ConfigMap", settings.APIVersion+" "+settings.Kind)
	require.Equal(t, "apps/v1 Deployment", workers.APIVersion+" "+workers.Kind)
	require.Equal(t, "policy/v1 PodDisruptionBudget", budget.APIVersion+" "+budget.Kind)
	return settings, workers, budget
}

func TestTheManifestFitsItself(t *testing.T) {
	t.Parallel()
	settings, workers, budget := manifest(t)
	pod := workers.Spec.Template
	require.Equal(t, pod.Labels, workers.Spec.Selector.MatchLabels)
	require.Equal(t, pod.Labels, budget.Spec.Selector.MatchLabels)
	require.Less(t, budget.Spec.MinAvailable.IntVal, *workers.Spec.Replicas, "a node can be drained")
	require.Len(t, pod.Spec.Containers, 1)
	container := pod.Spec.Containers[0]
	require.Equal(t, settings.Name, container.EnvFrom[0].ConfigMapRef.Name)
	require.Equal(t, pod.Spec.Volumes[0].Name, container.VolumeMounts[0].Name)
	for _, e := range container.Env {
		if e.Name == "GOMEMLIMIT" {
			limit := resource.MustParse(strings.TrimSuffix(e.Value, "B")) // Go writes MiB, Kubernetes Mi
			require.Negative(t, limit.Cmp(*container.Resources.Limits.Memory()), "Go collects before the pod is killed")
			continue
		}
		require.True(t, strings.HasPrefix(e.Value, container.VolumeMounts[0].MountPath+"/"), e.Name)
	}
	require.Equal(t, []core.ContainerPort{{Name: "http", ContainerPort: 8088}}, container.Ports)
	require.Equal(t, "0.0.0.0:8088", settings.Data["RECOMPOSE_HTTP_LISTEN"])
	require.Equal(t, "8088", pod.Annotations["prometheus.io/port"])
	require.True(t, container.Resources.Requests.Memory().Cmp(*container.Resources.Limits.Memory()) < 0)
}

// The probes and the scrape of the manifest get answers of a worker that works.
func TestTheProbesOfTheManifest(t *testing.T) {
	t.Parallel()
	_, workers, _ := manifest(t)
	container := workers.Spec.Template.Spec.Containers[0]
	for path, want := range map[string]string{
		container.LivenessProbe.HTTPGet.Path:                    `"status": "alive"`,
		container.ReadinessProbe.HTTPGet.Path:                   `"status": "ready"`,
		workers.Spec.Template.Annotations["prometheus.io/path"]: "recompose_build_info",
	} {
		status, text, err := get(t.Context(), worker.url+path)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, status, path)
		require.Contains(t, string(text), want, path)
	}
	for _, probe := range []*core.Probe{container.LivenessProbe, container.ReadinessProbe} {
		require.Equal(t, container.Ports[0].Name, probe.HTTPGet.Port.StrVal)
		require.Greater(t, time.Duration(probe.TimeoutSeconds)*time.Second, 5*time.Second, "a worker answers within 5 s")
	}
	require.Equal(t, int64(60), *workers.Spec.Template.Spec.TerminationGracePeriodSeconds)
}

// The Dockerfile copies all sources of the program, and uses a Go version that can build it.
func TestTheDockerfileHasWhatTheProgramNeeds(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../kubernetes/Dockerfile")
	require.NoError(t, err)
	source := t.TempDir()
	for _, copied := range regexp.MustCompile(`(?m)^COPY (?:go\.mod go\.sum \./|(\w+) (\w+))$`).FindAllStringSubmatch(string(text), -1) {
		if copied[1] == "" {
			for _, name := range []string{"go.mod", "go.sum"} {
				content, err := os.ReadFile(filepath.Join("../..", name))
				require.NoError(t, err)
				require.NoError(t, os.WriteFile(filepath.Join(source, name), content, 0o600))
			}
			continue
		}
		require.NoError(t, os.CopyFS(filepath.Join(source, copied[2]), os.DirFS(filepath.Join("../..", copied[1]))))
	}
	list := exec.Command("go", "list", "-deps", "./cmd/recompose") // fails where a package or an embedded file is missing
	list.Dir = source
	out, err := list.CombinedOutput()
	require.NoError(t, err, string(out))

	module, err := os.ReadFile("../../go.mod")
	require.NoError(t, err)
	version := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindStringSubmatch(string(module))
	require.Contains(t, string(text), "FROM golang:"+version[1]+" AS build\n")
}
