using System.Diagnostics;
using System.Globalization;

namespace GpuTasks.SystemTests;

/// <summary>The Docker Engine goes away and comes back under running tasks. Uses an engine of its own.</summary>
public sealed class EngineTests
{
    [Fact]
    public async Task Run_outlives_a_killed_engine_and_a_killed_platform()
    {
        Assert.SkipUnless(Environment.UserName == "root", "Only root can start a Docker Engine of its own.");
        var folder = Directory.CreateTempSubdirectory("gputasks-engine-").FullName;
        try
        {
            var host = await EngineAsync("start", folder);
            var image = Path.Combine(folder, "echo.tar");
            await Machine.DockerAsync("save", "-o", image, Machine.EchoImage);
            await Machine.DockerAtAsync(host, "load", "-i", image);

            await using var platform = await Platform.StartAtAsync(host);
            await platform.Client.CreateEchoAsync("survivor");
            await platform.Client.AcceptedAsync("survivor", "t1", """{"mode":"sleep","seconds":12}""");
            var running = await platform.Client.UntilAsync("survivor", "t1", "Running");
            await platform.Client.BegunAsync("survivor", "t1");

            var pid = int.Parse(await File.ReadAllTextAsync(new Uri(host).LocalPath.Replace("docker.sock", "dockerd.pid", StringComparison.Ordinal), TestContext.Current.CancellationToken), CultureInfo.InvariantCulture);
            using (var engine = Process.GetProcessById(pid))
            {
                engine.Kill();
            }

            await platform.KillAsync();
            Assert.Equal(host, await EngineAsync("start", folder));
            await platform.StartAgainAsync();

            var ended = await platform.Client.UntilAsync("survivor", "t1");
            Assert.Equal("Succeeded", ended.Status);
            Assert.Equal(running.Instance, ended.Instance);
            Assert.Equal(1, ended.Events.Count(status => status == "Running"));
            await platform.Client.DeleteAsync("survivor");
            await Eventually.ComesAsync("the end of all containers", TimeSpan.FromSeconds(60), platform.ContainersAsync, containers => containers.Length == 0);
        }
        finally
        {
            await EngineAsync("stop", folder);
            Directory.Delete(folder, recursive: true);
        }
    }

    private static async Task<string> EngineAsync(string command, string folder)
    {
        var (code, output) = await Machine.RunAsync(Path.Combine(Machine.Root, "deploy/docker/engine.sh"), [command, folder], TimeSpan.FromMinutes(1));
        return code == 0 ? output.Trim() : throw new InvalidOperationException($"engine.sh {command}: {output}");
    }
}
