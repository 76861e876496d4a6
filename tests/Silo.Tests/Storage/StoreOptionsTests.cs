using GpuTasks.Storage;

namespace GpuTasks.Tests.Storage;

public sealed class StoreOptionsTests
{
    [Fact]
    public void The_defaults_are_right() => Assert.Empty(new StoreOptions().FindFaults());

    [Fact]
    public void Every_fault_is_named_at_once()
    {
        Assert.Equal(2, new StoreOptions { Path = " ", BusyTimeout = TimeSpan.Zero }.FindFaults().Count);
        Assert.Equal(2, new StoreOptions { Provider = StoreProvider.PostgreSql, MaxPoolSize = 1 }.FindFaults().Count);
        Assert.Single(new StoreOptions { Provider = (StoreProvider)7 }.FindFaults());
    }

    [Theory]
    [InlineData("")]
    [InlineData("Database=x")]
    [InlineData("Host=a;Nonsense=1;Password=secret")]
    [InlineData("Host=a;Port=secret")]
    [InlineData("secret")]
    public void A_connection_string_that_cannot_work_is_refused_without_telling_it(string text)
    {
        var fault = Assert.Single(new StoreOptions { Provider = StoreProvider.PostgreSql, ConnectionString = text }.FindFaults());
        Assert.DoesNotContain("secret", fault, StringComparison.Ordinal);
    }

    [Fact]
    public void What_the_connection_string_says_goes_before_the_stores_own_settings()
    {
        using var database = new StoreDatabase(new StoreOptions
        {
            Provider = StoreProvider.PostgreSql,
            ConnectionString = "Host=127.0.0.1;Maximum Pool Size=7",
            MaxPoolSize = 50,
        });
        Assert.Contains("Maximum Pool Size=7", database.DataSource.ConnectionString, StringComparison.Ordinal);
        Assert.Contains("Max Auto Prepare=64", database.DataSource.ConnectionString, StringComparison.Ordinal);
    }

    [Fact]
    public void A_new_file_is_for_its_owner_alone()
    {
        var folder = Directory.CreateTempSubdirectory("gputasks-store-").FullName;
        try
        {
            var path = Path.Combine(folder, "store.db");
            using (var database = new StoreDatabase(new StoreOptions { Path = path }))
            {
                using var connection = database.DataSource.OpenConnection();
                using var command = connection.CreateCommand();
                command.CommandText = "create table t (x int)";
                command.ExecuteNonQuery();
                Assert.All(Directory.GetFiles(folder), f => Assert.Equal(UnixFileMode.UserRead | UnixFileMode.UserWrite, File.GetUnixFileMode(f)));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void The_password_is_not_shown_to_those_who_log_the_connection()
    {
        using var database = new StoreDatabase(new StoreOptions { Provider = StoreProvider.PostgreSql, ConnectionString = "Host=127.0.0.1;Password=hidden" });
        Assert.DoesNotContain("hidden", database.DataSource.ConnectionString, StringComparison.Ordinal);
    }
}
