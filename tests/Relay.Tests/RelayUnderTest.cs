using System.Diagnostics;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.Json;

namespace GpuTasks.Relay.Tests;

/// <summary>A relay as an ordinary process, its box, and a client for its socket.</summary>
internal sealed class RelayUnderTest : IAsyncDisposable
{
    private readonly HttpClient http;
    private readonly StringBuilder words = new();
    private readonly Process? process;

    private RelayUnderTest(string box, Process? process)
    {
        Box = box;
        this.process = process;
        if (process is not null)
        {
            process.ErrorDataReceived += (_, line) =>
            {
                lock (words)
                {
                    words.AppendLine(line.Data);
                }
            };
            process.BeginErrorReadLine();
        }

        http = new HttpClient(new SocketsHttpHandler
        {
            ConnectCallback = async (_, token) =>
            {
                var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(Path.Combine(box, "relay.sock")), token);
                return new NetworkStream(socket, ownsSocket: true);
            },
        })
        {
            BaseAddress = new Uri("http://relay/"),
            Timeout = Deadline.Long,
        };
    }

    /// <summary>The echo example, as this build made it.</summary>
    internal static string EchoPath => Path.Combine(AppContext.BaseDirectory, "GpuTasks.Echo");

    /// <summary>The static binary, or null when none was built.</summary>
    internal static string? StaticRelayPath => Environment.GetEnvironmentVariable("GPUTASKS_RELAY") is { Length: > 0 } path ? path : null;

    internal string Box { get; }

    /// <summary>The relay's own process; none when it runs in a container.</summary>
    internal Process Process => process ?? throw new InvalidOperationException("The relay is no process of this test.");

    internal string Words
    {
        get
        {
            lock (words)
            {
                return words.ToString();
            }
        }
    }

    /// <summary>The web server in front of which it stands, if it ends with it; held here, or it would be collected under the test.</summary>
    internal ScriptedFunction? Function { get; set; }

    /// <summary>A port that was free just now.</summary>
    internal static int FreePort()
    {
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        return ((IPEndPoint)listener.LocalEndpoint).Port;
    }

    internal static string NewBox() => Directory.CreateTempSubdirectory("gputasks-box-").FullName;

    /// <summary>A relay in front of the echo example.</summary>
    internal static Task<RelayUnderTest> WithEchoAsync(
        Action<RelayConfig>? configure = null, Dictionary<string, string>? environment = null, string? binary = null)
    {
        var config = new RelayConfig { Port = FreePort() };
        configure?.Invoke(config);
        var variables = new Dictionary<string, string>(environment ?? [])
        {
            ["FC_CUSTOM_LISTEN_PORT"] = config.Port.ToString(CultureInfo.InvariantCulture),
            ["LISTEN_ON"] = "127.0.0.1",
        };
        return StartAsync(config, [EchoPath], variables, binary: binary);
    }

    /// <summary>A relay in front of a shell script; the test itself may be the web server.</summary>
    internal static Task<RelayUnderTest> WithScriptAsync(RelayConfig config, string script, string? box = null) =>
        StartAsync(config, ["/bin/sh", "-c", script], box: box);

    internal static async Task<RelayUnderTest> StartAsync(
        RelayConfig config, string[] command, Dictionary<string, string>? environment = null, string? box = null, string? binary = null)
    {
        box ??= NewBox();
        await File.WriteAllBytesAsync(Path.Combine(box, "config.json"), JsonSerializer.SerializeToUtf8Bytes(config, Json.Default.RelayConfig), Deadline.Token);
        File.Delete(Path.Combine(box, "relay.sock"));
        var start = new ProcessStartInfo(binary ?? Path.Combine(AppContext.BaseDirectory, "GpuTasks.Relay"), ["--box", box, "--", .. command])
        {
            RedirectStandardError = true,
        };
        foreach (var (name, value) in environment ?? [])
        {
            start.Environment[name] = value;
        }

        var relay = new RelayUnderTest(box, Process.Start(start)!);
        return await relay.OnceAsync(
            () => Deadline.UntilAsync(() => Task.FromResult(relay.Process.HasExited || File.Exists(Path.Combine(box, "relay.sock"))), "the socket"));
    }

    /// <summary>A relay that somebody else started and will end.</summary>
    internal static RelayUnderTest Attach(string box) => new(box, null);

    internal static RunOrder Order(long epoch = 1, TimeSpan? limit = null, string path = "/invoke") => new()
    {
        Epoch = epoch,
        Path = path,
        LimitMs = (long)(limit ?? TimeSpan.FromMinutes(10)).TotalMilliseconds,
        Context = "told back",
    };

    /// <summary>This relay, once that came to be; ended if it does not, since the caller has no hold on it yet.</summary>
    internal async Task<RelayUnderTest> OnceAsync(Func<Task> condition)
    {
        try
        {
            await condition();
            return this;
        }
        catch
        {
            await DisposeAsync();
            throw;
        }
    }

    internal Task<StatusDocument> StatusAsync() => GetStatusAsync(-1, 0);

    /// <summary>Waits, by long polls, for a status like that.</summary>
    internal async Task<StatusDocument> WaitForAsync(Func<StatusDocument, bool> condition, string what)
    {
        var token = Deadline.Token;
        var status = await StatusAsync();
        while (!condition(status))
        {
            Assert.False(token.IsCancellationRequested, $"Not seen: {what}. Last: {JsonSerializer.Serialize(status, Json.Default.StatusDocument)} {Words}");
            status = await GetStatusAsync(status.Version, 1000);
        }

        return status;
    }

    internal Task<StatusDocument> ReadyAsync() => WaitForAsync(status => status.State == States.Ready, "ready");

    internal Task<StatusDocument> StateAsync(string state) => WaitForAsync(status => status.State == state, state);

    internal async Task<RunDocument> EndOfAsync(string runId)
    {
        var status = await WaitForAsync(s => s.Runs.Any(run => run.RunId == runId && run.State == RunStates.Ended), $"the end of {runId}");
        return status.Runs.Single(run => run.RunId == runId);
    }

    /// <summary>Puts a run that must be accepted.</summary>
    internal async Task PutAsync(string runId, string body, RunOrder? order = null)
    {
        var (status, text) = await TryPutAsync(runId, Encoding.UTF8.GetBytes(body), order);
        Assert.True(status == HttpStatusCode.Created, $"{status} {text}");
    }

    internal async Task<(HttpStatusCode Status, string Text)> TryPutAsync(string runId, byte[] body, RunOrder? order = null)
    {
        using var request = new HttpRequestMessage(HttpMethod.Put, $"runs/{runId}") { Content = new ByteArrayContent(body) };
        request.Headers.TryAddWithoutValidation(
            "x-gputasks-order", Convert.ToBase64String(JsonSerializer.SerializeToUtf8Bytes(order ?? Order(), Json.Default.RunOrder)));
        using var response = await http.SendAsync(request, Deadline.Token);
        return (response.StatusCode, await response.Content.ReadAsStringAsync(Deadline.Token));
    }

    internal async Task<(HttpStatusCode Status, byte[] Body)> CallAsync(HttpMethod method, string path, byte[]? body = null)
    {
        using var request = new HttpRequestMessage(method, path) { Content = body is null ? null : new ByteArrayContent(body) };
        using var response = await http.SendAsync(request, Deadline.Token);
        return (response.StatusCode, await response.Content.ReadAsByteArrayAsync(Deadline.Token));
    }

    internal async Task<string> ResponseAsync(string runId)
    {
        var (status, body) = await CallAsync(HttpMethod.Get, $"runs/{runId}/response");
        Assert.Equal(HttpStatusCode.OK, status);
        return Encoding.UTF8.GetString(body);
    }

    internal async Task CancelAsync(string runId) => Assert.Equal(HttpStatusCode.Accepted, (await CallAsync(HttpMethod.Delete, $"runs/{runId}")).Status);

    internal async Task StopAsync(int? graceMs = null) =>
        Assert.Equal(HttpStatusCode.Accepted, (await CallAsync(HttpMethod.Post, graceMs is null ? "stop" : $"stop?graceMs={graceMs}")).Status);

    internal async Task<int> ExitAsync()
    {
        await Process.WaitForExitAsync(Deadline.Token);
        return Process.ExitCode;
    }

    internal string LogText() => string.Concat(Directory.GetFiles(Path.Combine(Box, "logs")).Order(StringComparer.Ordinal).Select(File.ReadAllText));

    internal StatusDocument StatusFile() => JsonSerializer.Deserialize(File.ReadAllBytes(Path.Combine(Box, "status.json")), Json.Default.StatusDocument)!;

    internal void Signal(int signal) => Assert.Equal(0, Native.Kill(Process.Id, signal));

    /// <summary>Ends the relay and its function as the end of a container would.</summary>
    internal async Task KillAsync()
    {
        var child = (await StatusAsync()).Child;
        Process.Kill();
        await ExitAsync();
        if (child.Pid > 0)
        {
            _ = Native.Kill(-child.Pid, Native.SigKill);
        }
    }

    public async ValueTask DisposeAsync()
    {
        if (process is { HasExited: false })
        {
            try
            {
                await StopAsync(0);
                await ExitAsync();
            }
            catch (Exception e) when (e is HttpRequestException or OperationCanceledException)
            {
                Process.Kill();
                _ = Native.Kill(-StatusFile().Child.Pid, Native.SigKill);
            }
        }

        http.Dispose();
        Function?.Dispose();
        process?.Dispose();
        Directory.Delete(Box, recursive: true);
    }

    private async Task<StatusDocument> GetStatusAsync(long after, int waitMs)
    {
        using var response = await http.GetAsync(new Uri(after < 0 ? "status" : $"status?after={after}&waitMs={waitMs}", UriKind.Relative), Deadline.Token);
        Assert.Equal(HttpStatusCode.OK, response.StatusCode);
        return JsonSerializer.Deserialize(await response.Content.ReadAsByteArrayAsync(Deadline.Token), Json.Default.StatusDocument)!;
    }
}
