using GpuTasks.Tasks;

namespace GpuTasks.Tests;

public sealed class TaskKeyTests
{
    [Fact]
    public void A_key_survives_its_text_form()
    {
        var key = new TaskKey("1001", "speech", "job-1");
        Assert.Equal(key, TaskKey.Parse(key.ToString()));
    }

    [Fact]
    public void Text_of_another_form_is_refused() => Assert.Throws<FormatException>(() => TaskKey.Parse("1001/speech"));
}
