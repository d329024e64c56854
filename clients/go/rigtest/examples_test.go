//go:build rig

package rigtest

import (
	"bufio"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func built(t *testing.T, example string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), example)
	output, err := exec.Command("go", "build", "-o", binary, "../examples/"+example).CombinedOutput()
	if err != nil {
		t.Fatal(string(output))
	}
	return binary
}

func TestTheReadmeExampleRuns(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("../examples/readme/main.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+string(source)+"```\n") {
		t.Error("examples/readme/main.go is not what the README shows")
	}
	body, _, _ := strings.Cut(string(source[strings.Index(string(source), "func main() {\n")+14:]), "\n}\n")
	if lines := strings.Count(body, "\n") + 1; lines > 10 {
		t.Error(lines, "lines")
	}
	if output, err := exec.Command(built(t, "readme")).CombinedOutput(); err != nil {
		t.Error(string(output))
	}
}

func TestTheWebServiceServesThroughARotation(t *testing.T) {
	service := exec.Command(built(t, "webservice"))
	service.Env = append(os.Environ(), "LISTEN=127.0.0.1:0")
	log, err := service.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(log).ReadString('\n')
	_, rest, ok := strings.Cut(line, "address=")
	if err != nil || !ok {
		t.Fatal(line, err)
	}
	go func() { _, _ = io.Copy(io.Discard, log) }()
	base := "http://" + strings.Fields(rest)[0]
	token := ask(t, http.MethodPost, base+"/tokens?user=me", "", "")
	for range 3 {
		ask(t, http.MethodPost, base+"/notes", token, "a note")
		rotate(t, "DB")
	}
	rotate(t, "JWT")
	ask(t, http.MethodPost, base+"/notes", token, "a note after a rotation of the key that signed the token")
	ask(t, http.MethodGet, base+"/health", "", "")
	if err := service.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := service.Wait(); err != nil {
		t.Error(err)
	}
}

func ask(t *testing.T, method, url, token, body string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	reply, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	text, err := io.ReadAll(reply.Body)
	if err != nil || reply.StatusCode != http.StatusOK {
		t.Fatal(url, reply.StatusCode, string(text), err)
	}
	return string(text)
}
