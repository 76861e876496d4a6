using System.Globalization;
using System.Text;

namespace GpuTasks.Relay.Tests;

public sealed class LogTests
{
    [Fact]
    public async Task Both_streams_are_kept_in_the_order_of_arrival()
    {
        await using var relay = await RelayUnderTest.WithEchoAsync();
        await relay.ReadyAsync();
        await relay.PutAsync("r", """{"mode":"flood","bytes":200000,"lineBytes":50,"to":"both"}""");
        var run = await relay.EndOfAsync("r");
        var text = relay.LogText()[(int)run.LogFrom..(int)run.LogTo];
        // Its first line may come after its port is open, and so within the first run.
        var lines = text.Split('\n', StringSplitOptions.RemoveEmptyEntries).Where(line => !line.StartsWith("Listening", StringComparison.Ordinal)).ToArray();
        Assert.StartsWith("FC Invoke Start", lines[0], StringComparison.Ordinal);
        Assert.StartsWith("FC Invoke End", lines[^1], StringComparison.Ordinal);
        Assert.Equal(Enumerable.Range(0, 4000), lines[1..^1].Select(line => int.Parse(line[..12], CultureInfo.InvariantCulture)));
    }

    [Fact]
    public async Task A_flood_is_bounded_and_loses_only_its_beginning()
    {
        const int Flood = 30_000_000;
        await using var relay = await RelayUnderTest.WithEchoAsync(config =>
        {
            config.LogBytes = 1_000_000;
            config.LogSegmentBytes = 100_000;
        });
        await relay.ReadyAsync();
        await relay.PutAsync("r", $$"""{"mode":"flood","bytes":{{Flood}},"lineBytes":100}""");
        var run = await relay.EndOfAsync("r");
        Assert.Equal(Outcomes.Answered, run.Outcome);
        Assert.InRange(run.LogTo - run.LogFrom, Flood, Flood + 1000);
        var status = await relay.StatusAsync();
        Assert.Equal(run.LogTo, status.LogEnd);
        Assert.InRange(status.LogEnd - status.LogStart, 900_000, 1_000_000);

        var files = Directory.GetFiles(Path.Combine(relay.Box, "logs")).Order(StringComparer.Ordinal).ToList();
        Assert.InRange(files.Count, 10, 11);
        Assert.All(files[..^1], file => Assert.Equal(100_000, new FileInfo(file).Length));
        Assert.Equal(status.LogStart, long.Parse(Path.GetFileNameWithoutExtension(files[0]), CultureInfo.InvariantCulture));
        Assert.Equal(20, Path.GetFileNameWithoutExtension(files[0]).Length);
        var kept = relay.LogText();
        Assert.Equal(status.LogEnd - status.LogStart, kept.Length);
        var numbers = kept.Split('\n').Where(line => line.Length == 99).Select(line => long.Parse(line[..12], CultureInfo.InvariantCulture)).ToList();
        Assert.Equal(numbers.Count - 1, numbers[^1] - numbers[0]);
        Assert.Equal((Flood / 100) - 1, numbers[^1]);
    }

    [Fact]
    public void Segments_are_named_by_offset_and_the_oldest_go_first()
    {
        var folder = Directory.CreateTempSubdirectory("gputasks-log-").FullName;
        using (var log = new LogSegments(folder, totalBytes: 10, segmentBytes: 4))
        {
            log.Append("abcdefghij"u8);
            Assert.Equal((0, 10), (log.Start, log.End));
            log.Append("kl"u8);
            Assert.Equal((4, 12), (log.Start, log.End));
        }

        Assert.Equal("efghijkl", Text(folder));
        using (var log = new LogSegments(folder, totalBytes: 10, segmentBytes: 4))
        {
            Assert.Equal((4, 12), (log.Start, log.End));
            log.Append("mnopqrstuvwxyz"u8);
            Assert.Equal((16, 26), (log.Start, log.End));
        }

        Assert.Equal("qrstuvwxyz", Text(folder));
        Assert.Equal(["00000000000000000016.log", "00000000000000000020.log", "00000000000000000024.log"], Directory.GetFiles(folder).Select(Path.GetFileName).Order(StringComparer.Ordinal));
        Directory.Delete(folder, recursive: true);
    }

    [Fact]
    public void Output_that_cannot_be_written_leaves_a_hole_and_the_offsets_go_on()
    {
        var folder = Directory.CreateTempSubdirectory("gputasks-log-").FullName;
        using (var log = new LogSegments(folder, totalBytes: 100, segmentBytes: 4))
        {
            log.Append("abcd"u8);
            // A folder in the way of the next segment.
            Directory.CreateDirectory(Path.Combine(folder, "00000000000000000004.log"));
            log.Append("efgh"u8);
            log.Append("ijkl"u8);
            Assert.Equal((0, 12), (log.Start, log.End));
        }

        Assert.Equal("ijkl", File.ReadAllText(Path.Combine(folder, "00000000000000000008.log")));
        Directory.Delete(folder, recursive: true);
    }

    private static string Text(string folder) =>
        string.Concat(Directory.GetFiles(folder).Order(StringComparer.Ordinal).Select(file => File.ReadAllText(file, Encoding.ASCII)));
}
