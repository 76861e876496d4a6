using System.Diagnostics;
using System.Runtime.InteropServices;

namespace GpuTasks.SystemTests;

/// <summary><c>./quickstart --serve</c>: left running, ended by Ctrl-C, killed, and started again on the same folder.</summary>
[Collection(BuildsQuickstart.Name)]
public sealed partial class ServeTests : IAsyncLifetime
{
    private const int SigInt = 2;
    private const string Function = "served";
    private static readonly TimeSpan BuildPatience = TimeSpan.FromMinutes(8);
    private static readonly TimeSpan EndPatience = TimeSpan.FromMinutes(1);
    private readonly string folder = Directory.CreateTempSubdirectory("gputasks-serve-").FullName;
    private readonly int port = Machine.FreePort();
    private Client client = null!;
    private Process? quickstart;

    public async ValueTask InitializeAsync()
    {
        await StartAsync();
        client = new Client(new Uri($"http://127.0.0.1:{port}"), (await File.ReadAllTextAsync(Path.Combine(folder, "api-key"))).Trim());
    }

    public async ValueTask DisposeAsync()
    {
        if (quickstart is not null)
        {
            await StopAsync();
        }

        client?.Dispose();
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public async Task Ctrl_C_leaves_nothing_running_and_the_same_folder_goes_on()
    {
        await SubmitSixAsync();
        Assert.Equal(0, await StopAsync());
        Assert.Empty(await ContainersAsync());
        await NobodyListensAsync();

        await StartAsync();
        foreach (var n in Enumerable.Range(1, 6))
        {
            Assert.Equal("Succeeded", (await client.UntilAsync(Function, $"t{n}")).Status);
        }

        await client.DeleteAsync(Function);
    }

    [Fact]
    public async Task Kill_9_of_quickstart_ends_the_silo_and_the_next_start_adopts_what_runs()
    {
        await SubmitSixAsync();
        var containers = await ContainersAsync();
        Assert.Equal(2, containers.Length);
        quickstart!.Kill();
        await quickstart.WaitForExitAsync(TestContext.Current.CancellationToken);
        await NobodyListensAsync();
        Assert.Equal(containers.Order(), (await ContainersAsync()).Order());

        await StartAsync();
        foreach (var n in Enumerable.Range(1, 6))
        {
            var task = await client.UntilAsync(Function, $"t{n}");
            Assert.Equal("Succeeded", task.Status);
            Assert.True(task.Events.Count(status => status == "Running") == 1, task.ToString());
        }

        await client.DeleteAsync(Function);
    }

    /// <summary>Six tasks for two cards; returns when two of them have begun.</summary>
    private async Task SubmitSixAsync()
    {
        await client.CreateEchoAsync(Function);
        foreach (var n in Enumerable.Range(1, 6))
        {
            await client.AcceptedAsync(Function, $"t{n}", """{"mode":"sleep","seconds":6}""");
        }

        var running = await Eventually.ComesAsync("two running tasks", EndPatience, () => client.ListAsync(Function, "&status=Running"), running => running.Count == 2);
        foreach (var task in running)
        {
            await client.BegunAsync(Function, task.Id);
        }
    }

    private async Task StartAsync()
    {
        var start = new ProcessStartInfo(Path.Combine(Machine.Root, "quickstart"), ["--serve", "--data", folder, "--port", $"{port}", "--docker", Machine.DockerHost])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        quickstart = Process.Start(start)!;
        var errors = new List<string?>();
        quickstart.ErrorDataReceived += (_, line) => errors.Add(line.Data);
        quickstart.BeginErrorReadLine();
        using var patience = new CancellationTokenSource(BuildPatience);
        while (await quickstart.StandardOutput.ReadLineAsync(patience.Token) is { } line)
        {
            if (line == $"gateway: http://127.0.0.1:{port}")
            {
                return;
            }
        }

        throw new InvalidOperationException($"quickstart ended before it was ready: {string.Join('\n', errors)}");
    }

    private async Task<int> StopAsync()
    {
        _ = Signal(quickstart!.Id, SigInt);
        using var patience = new CancellationTokenSource(EndPatience);
        await quickstart.WaitForExitAsync(patience.Token);
        var code = quickstart.ExitCode;
        quickstart.Dispose();
        quickstart = null;
        return code;
    }

    private async Task<string[]> ContainersAsync()
    {
        var node = (await File.ReadAllTextAsync(Path.Combine(folder, "node-name"))).Trim();
        var ids = await Machine.DockerAsync("ps", "-aq", "--filter", $"label=gputasks.node={node}");
        return ids.Split('\n', StringSplitOptions.RemoveEmptyEntries);
    }

    private Task<bool> NobodyListensAsync() => Eventually.ComesAsync("a free port", EndPatience, async () =>
    {
        try
        {
            await client.StatusOfAsync("/healthz");
            return false;
        }
        catch (HttpRequestException)
        {
            return true;
        }
    }, free => free);

    [LibraryImport("libc", EntryPoint = "kill")]
    [DefaultDllImportSearchPaths(DllImportSearchPath.SafeDirectories)]
    private static partial int Signal(int process, int signal);
}
