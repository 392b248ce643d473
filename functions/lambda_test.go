package functions_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/functions"
)

// target returns the Makefile's target of a function: build- and the function's name in the template.
func target(t testing.TB, name string) string {
	return "build-" + readTemplate(t).id(t, name) + "Function"
}

// maxProgram is how large a program may be: Lambda fetches it before each cold start.
const maxProgram = 10 << 20

// A wrong build target also succeeds, but writes an archive instead of a program.
func TestEachTargetBuildsAProgramForLambda(t *testing.T) {
	t.Parallel()
	for _, name := range functions.Names() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			build := exec.CommandContext(t.Context(), "make", target(t, name), "ARTIFACTS_DIR="+dir)
			build.Dir = ".."
			out, err := build.CombinedOutput()
			require.NoError(t, err, string(out))

			path := filepath.Join(dir, "bootstrap")
			info, err := os.Stat(path)
			require.NoError(t, err)
			require.NotZero(t, info.Mode()&0o111, "it can be run")
			limit := int64(maxProgram)
			if name == events.FnRollout {
				limit += 512 << 10 // it has the data of the time zones
			}
			require.LessOrEqual(t, info.Size(), limit)
			program, err := elf.Open(path)
			require.NoError(t, err)
			t.Cleanup(func() { _ = program.Close() })
			require.Equal(t, elf.EM_AARCH64, program.Machine)
			require.Equal(t, elf.ET_EXEC, program.Type)
			for _, part := range program.Progs {
				require.NotEqual(t, elf.PT_INTERP, part.Type, "it is static")
			}
			require.Nil(t, program.Section(".symtab"), "it is stripped")
		})
	}
}
