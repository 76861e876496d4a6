using System.Diagnostics;
using System.Net;

namespace GpuTasks.Relay.Tests;

/// <summary>The box stands on a disk of its own, small enough to be filled.</summary>
public sealed class FullDiskTests : IDisposable
{
    private readonly string disk = RelayUnderTest.NewBox();

    public FullDiskTests()
    {
        Assert.SkipUnless(Environment.UserName == "root", "Only root can mount a disk.");
        Run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk);
    }

    private string NewBox() => Directory.CreateDirectory(Path.Combine(disk, "box")).FullName;

    [Fact]
    public async Task An_answer_waits_for_room_and_is_whole_and_orders_are_refused_until_then()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port, Concurrency = 2 }, "exec sleep 1000", NewBox());
        await relay.ReadyAsync();
        await relay.PutAsync("r", "");
        using var call = await function.NextAsync();
        var filler = Path.Combine(disk, "filler");
        Fill(filler);
        Assert.Equal(HttpStatusCode.InsufficientStorage, (await relay.TryPutAsync("refused", new byte[100_000])).Status);
        var body = new string('a', 300_000);
        var answering = call.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: {body.Length}\r\n\r\n{body}");

        // Longer than the relay waits to tell a crash from a closed connection.
        await Task.Delay(TimeSpan.FromSeconds(3), Deadline.Token);
        Assert.Equal(RunStates.Running, Assert.Single((await relay.StatusAsync()).Runs).State);
        File.Delete(filler);
        await answering;
        Assert.Equal(Outcomes.Answered, (await relay.EndOfAsync("r")).Outcome);
        Assert.Equal(body, await relay.ResponseAsync("r"));
        await relay.PutAsync("again", "");
    }

    [Fact]
    public async Task A_run_whose_answer_finds_no_room_still_ends_at_its_limit()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port }, "exec sleep 1000", NewBox());
        await relay.ReadyAsync();
        await relay.PutAsync("r", "", RelayUnderTest.Order(limit: TimeSpan.FromSeconds(4)));
        using var call = await function.NextAsync();
        Fill(Path.Combine(disk, "filler"));
        await call.SendAsync($"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n{new string('a', 9000)}");
        Assert.Equal(Outcomes.TimedOut, (await relay.EndOfAsync("r")).Outcome);
    }

    public void Dispose()
    {
        Run("umount", "-l", disk);
        Directory.Delete(disk);
    }

    private static void Fill(string path)
    {
        using var file = File.Create(path);
        var block = new byte[4096];
        try
        {
            while (true)
            {
                file.Write(block);
                file.Flush();
            }
        }
        catch (IOException)
        {
            // Full.
        }
    }

    private static void Run(string program, params string[] arguments)
    {
        using var process = Process.Start(program, arguments);
        process.WaitForExit();
        Assert.Equal(0, process.ExitCode);
    }
}
