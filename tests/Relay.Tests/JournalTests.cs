using System.Text;
using System.Text.Json;

namespace GpuTasks.Relay.Tests;

/// <summary>What a power cut leaves of runs.</summary>
public sealed class JournalTests
{
    [Fact]
    public async Task It_has_the_order_before_the_answer_and_the_end_before_it_is_shown()
    {
        using var function = new ScriptedFunction();
        await using var relay = await RelayUnderTest.WithScriptAsync(new RelayConfig { Port = function.Port, Concurrency = 2 }, "exec sleep 1000");
        await relay.ReadyAsync();
        await relay.PutAsync("r", "event");
        var order = Assert.Single(Lines(relay.Box));
        Assert.Equal(("r", "told back", null), (order.RunId, order.Order!.Context, order.End));

        using (var call = await function.NextAsync())
        {
            await call.AnswerAsync("done");
        }

        await relay.EndOfAsync("r");
        var end = Lines(relay.Box)[^1];
        Assert.Equal(("r", Outcomes.Answered, "done"), (end.RunId, end.End!.Outcome, Encoding.UTF8.GetString(Convert.FromBase64String(end.Answer!))));

        await relay.PutAsync("long", "");
        using (var call = await function.NextAsync())
        {
            await call.AnswerAsync(new string('a', Journal.MaxAnswerBytes + 1));
        }

        await relay.EndOfAsync("long");
        var last = Lines(relay.Box)[^1];
        Assert.Equal(("long", Journal.MaxAnswerBytes + 1L, null), (last.RunId, last.End!.ResponseBytes, last.Answer));
    }

    [Fact]
    public async Task It_stays_bounded_and_what_it_forgets_is_in_the_runs_own_files()
    {
        var box = new Box(RelayUnderTest.NewBox());
        var files = new RunFiles(box);
        for (var i = 0; i < 600; i++)
        {
            await files.CreateAsync($"r{i}", new RunOrder(), path => File.WriteAllTextAsync(path, "event", Deadline.Token));
            await File.WriteAllBytesAsync(files.ResponsePath($"r{i}"), new byte[Journal.MaxAnswerBytes], Deadline.Token);
            await files.SaveEndAsync(new RunDocument { RunId = $"r{i}", State = RunStates.Ended, Outcome = Outcomes.Answered, ResponseBytes = Journal.MaxAnswerBytes });
        }

        Assert.InRange(new FileInfo(box.JournalPath).Length, 1, 5 << 20);
        Assert.Equal("r599", Lines(box.Root)[^1].RunId);
        Assert.DoesNotContain(Lines(box.Root), line => line.RunId == "r0");
        Assert.Equal(600, files.Load().Count(run => run.Document.ResponseBytes == Journal.MaxAnswerBytes));
        Directory.Delete(box.Root, recursive: true);
    }

    [Fact]
    public async Task Many_runs_at_once_are_all_in_it()
    {
        var box = new Box(RelayUnderTest.NewBox());
        var files = new RunFiles(box);
        await Task.WhenAll(Enumerable.Range(0, 200).Select(i => Task.Run(() => files.CreateAsync($"r{i}", new RunOrder(), path => File.WriteAllTextAsync(path, "", Deadline.Token)))));
        Assert.Equal(200, Lines(box.Root).Select(line => line.RunId).Distinct().Count());
        Directory.Delete(box.Root, recursive: true);
    }

    private static List<JournalLine> Lines(string box) =>
        [.. File.ReadAllLines(Path.Combine(box, "journal")).Select(line => JsonSerializer.Deserialize(line, Json.Default.JournalLine)!)];
}
