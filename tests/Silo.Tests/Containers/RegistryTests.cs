using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Http.Headers;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Docker.DotNet.Models;
using GpuTasks.Containers;
using GpuTasks.Nodes;
using GpuTasks.Tasks;

namespace GpuTasks.Tests.Containers;

/// <summary>Images from a registry that asks for a name and a password.</summary>
public sealed class RegistryTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    [Fact]
    public async Task A_private_image_is_fetched_with_the_functions_own_credentials_and_refused_without_them()
    {
        TestDocker.SkipWithoutRelay();
        using var folder = new TestFolder();
        await using var registry = await Registry.StartAsync(folder.Path);
        var image = await registry.PushEchoAsync();
        await using var harness = await AgentHarness.OnDockerAsync();
        foreach (var (user, password) in new[] { (Registry.User, "wrong"), (null, (string?)null) })
        {
            var refused = await harness.LaunchAsync(spec => spec with { Container = spec.Container with { Image = image, RegistryUser = user, RegistryPassword = password } });
            await harness.UntilGoneAsync(refused);
            var failure = harness.Platform.Latest(refused)!.Failure;
            Assert.Equal(RunOutcome.ImageError, failure?.Outcome);
            Assert.Contains(image, failure!.Message, StringComparison.Ordinal);
            Assert.Matches("auth|credentials|denied", failure.Message);
            Assert.Null(await harness.Engine.FindImageAsync(image, Token));
        }

        var id = await harness.LaunchReadyAsync(spec => spec with { Container = spec.Container with { Image = image, RegistryUser = Registry.User, RegistryPassword = Registry.Password } });
        var told = harness.Platform.Statuses.Where(status => status.InstanceId == id).OrderBy(status => status.Version).ToList();
        Assert.Contains(told, status => status is { State: InstanceState.Creating, PullingImage: true, Pull: not null });
        Assert.False(told[^1].PullingImage);
        Assert.StartsWith($"{image.Split(':')[0]}:{registry.Port}/echo@sha256:", told[^1].ResolvedImage, StringComparison.Ordinal);
        var run = await harness.StartRunAsync(id, new { mode = "echo" });
        Assert.Equal(RunOutcome.Succeeded, (await harness.ReportOfAsync(run)).Outcome);
        await harness.Agent.StopInstanceAsync(id, force: true, Token);
        await harness.UntilGoneAsync(id);
        await harness.Engine.RemoveImageAsync(image, Token);
    }

    [Fact]
    public async Task A_pull_tells_its_layers_and_bytes()
    {
        TestDocker.SkipWithoutRelay();
        using var folder = new TestFolder();
        await using var registry = await Registry.StartAsync(folder.Path);
        var image = await registry.PushEchoAsync();
        using var engine = new DockerEngine(TestDocker.Endpoint);
        var told = new List<PullProgress>();
        await engine.PullImageAsync(image, new RegistryLogin(Registry.User, Registry.Password), told.Add, Patience, Token);
        await engine.RemoveImageAsync(image, Token);
        Assert.NotEmpty(told);
        Assert.All(told, progress => Assert.True(progress.LayersDone <= progress.Layers && progress.Bytes <= progress.TotalBytes, progress.ToString()));
        Assert.Equal(told[^1].Layers, told[^1].LayersDone);
        Assert.InRange(told[^1].TotalBytes, Registry.OwnLayerBytes, long.MaxValue);
        Assert.Equal(told[^1].TotalBytes, told[^1].Bytes);
    }

    [Fact]
    public void Steps_of_a_pull_are_added_up()
    {
        var told = new List<PullProgress>();
        var steps = new PullSteps(told.Add);
        Tell("latest", "Pulling from echo");
        Assert.Empty(told);
        Tell("a", "Pulling fs layer");
        Tell("b", "Pulling fs layer");
        Tell("c", "Already exists");
        Assert.Equal(new PullProgress(3, 1, 0, 0), told[^1]);
        Tell("a", "Downloading", 10, 100);
        Assert.Equal(new PullProgress(3, 1, 10, 100), told[^1]);
        Tell("a", "Download complete");
        Tell("a", "Extracting", 50, 100);
        Tell("b", "Downloading", 1, 7);
        Assert.Equal(new PullProgress(3, 1, 101, 107), told[^1]);
        Tell("a", "Pull complete");
        Tell("b", "Pull complete");
        Assert.Equal(new PullProgress(3, 3, 107, 107), told[^1]);
        Assert.Null(steps.Error);
        steps.Report(new JSONMessage { Error = new JSONError { Message = "no" } });
        Assert.Equal("no", steps.Error);

        void Tell(string id, string status, long current = 0, long total = 0) =>
            steps.Report(new JSONMessage { ID = id, Status = status, Progress = total > 0 ? new JSONProgress { Current = current, Total = total } : null });
    }

    /// <summary>Docker's registry as a process of its own, with one user.</summary>
    private sealed class Registry(Process process, string folder, int port) : IAsyncDisposable
    {
        public const string User = "puller";
        public const string Password = "correct horse";
        public const int OwnLayerBytes = 4 << 20;

        /// <summary>The password by bcrypt.</summary>
        private const string Hash = "$2b$05$abcdefghijklmnopqrstuuHNbAKRhpaujgo33bRWs.NLUTJO3lOy2";

        public int Port => port;

        public static async Task<Registry> StartAsync(string folder)
        {
            var port = FreePort();
            await File.WriteAllTextAsync(Path.Combine(folder, "htpasswd"), $"{User}:{Hash}\n", Token);
            await File.WriteAllTextAsync(Path.Combine(folder, "config.yml"), $"""
                version: 0.1
                log:
                  level: warn
                storage:
                  filesystem:
                    rootdirectory: {folder}/data
                http:
                  addr: 127.0.0.1:{port}
                auth:
                  htpasswd:
                    realm: test
                    path: {folder}/htpasswd
                """, Token);
            var registry = new Registry(Process.Start(new ProcessStartInfo("docker-registry", ["serve", Path.Combine(folder, "config.yml")]))!, folder, port);
            using var http = new HttpClient();
            await AgentHarness.UntilAsync(() => AnswersAsync(http, port).Result, "the registry answers");
            return registry;
        }

        /// <summary>Puts the echo image there, with a layer that no other has, and takes it from the engine again.</summary>
        public async Task<string> PushEchoAsync()
        {
            var image = $"127.0.0.1:{port}/echo:{Guid.NewGuid():N}";
            var context = Directory.CreateDirectory(Path.Combine(folder, "image")).FullName;
            await File.WriteAllTextAsync(Path.Combine(context, "Dockerfile"), $"FROM {TestDocker.EchoImage}\nCOPY layer /layer\n", Token);
            await File.WriteAllBytesAsync(Path.Combine(context, "layer"), RandomNumberGenerator.GetBytes(OwnLayerBytes), Token);
            await DockerAsync("build", "-q", "-t", image, context);
            var login = Convert.ToBase64String(Encoding.UTF8.GetBytes($"{User}:{Password}"));
            await File.WriteAllTextAsync(Path.Combine(folder, "config.json"), JsonSerializer.Serialize(new { auths = new Dictionary<string, object> { [$"127.0.0.1:{port}"] = new { auth = login } } }), Token);
            await DockerAsync("--config", folder, "push", "-q", image);
            await DockerAsync("rmi", image);
            return image;
        }

        public async ValueTask DisposeAsync()
        {
            process.Kill();
            await process.WaitForExitAsync(CancellationToken.None);
            process.Dispose();
        }

        private static async Task<bool> AnswersAsync(HttpClient http, int port)
        {
            try
            {
                using var request = new HttpRequestMessage(HttpMethod.Get, new Uri(string.Create(CultureInfo.InvariantCulture, $"http://127.0.0.1:{port}/v2/")));
                request.Headers.Authorization = new AuthenticationHeaderValue("Basic", Convert.ToBase64String(Encoding.UTF8.GetBytes($"{User}:{Password}")));
                using var answer = await http.SendAsync(request, Token);
                return answer.StatusCode == HttpStatusCode.OK;
            }
            catch (HttpRequestException)
            {
                return false;
            }
        }

        private static async Task DockerAsync(params string[] arguments)
        {
            var start = new ProcessStartInfo("docker", ["-H", TestDocker.Endpoint, .. arguments]) { RedirectStandardError = true, RedirectStandardOutput = true };
            start.Environment["DOCKER_BUILDKIT"] = "0";
            using var docker = Process.Start(start)!;
            var output = docker.StandardOutput.ReadToEndAsync(Token);
            var error = await docker.StandardError.ReadToEndAsync(Token);
            await docker.WaitForExitAsync(Token);
            Assert.True(docker.ExitCode == 0, $"docker {string.Join(' ', arguments)}: {error}{await output}");
        }

        private static int FreePort()
        {
            using var listener = new TcpListener(IPAddress.Loopback, 0);
            listener.Start();
            return ((IPEndPoint)listener.LocalEndpoint).Port;
        }
    }
}
